"""Stands in for PyTorch: whatever is asked of it is taken, and nothing is computed."""

import sys
from unittest.mock import MagicMock


class Device:
    def __init__(self, name):
        self.type = name.partition(":")[0]


torch = MagicMock(name="torch", __version__="0.0-fake", __path__=[], __spec__=None)
torch.device = Device
torch.cuda.is_available.return_value = True
torch.cuda.get_device_name.return_value = "stand-in"
torch.cuda.max_memory_allocated.return_value = 2**30
sys.modules[__name__] = torch
