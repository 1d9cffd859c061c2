"""convert_checkpoint.py without PyTorch: how it reads names, and what it says where PyTorch is missing."""

import json
import subprocess
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

from support import SCRIPTS, SMALL, answers

stubs = {name: mock.MagicMock() for name in ["torch", "safetensors", "safetensors.torch"]}
with mock.patch.dict(sys.modules, stubs):
    import convert_checkpoint


def parameters():
    """Of a network that kerase trained, names and what has their shapes."""
    data = (answers() / "run/model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return {name: SimpleNamespace(shape=tuple(of["shape"])) for name, of in header.items() if name != "__metadata__"}


class Names(unittest.TestCase):
    def test_the_architecture_is_that_which_kerase_trained(self):
        found = convert_checkpoint.architecture(parameters(), "model.safetensors")
        options = {name.strip("-").replace("-", "_"): int(value) for name, value in zip(SMALL[::2], SMALL[1::2])}
        options["num_cascades"] = options.pop("cascades")
        self.assertEqual(found, options)

    def test_prefixes_of_checkpoints_are_taken_off_and_others_left_behind(self):
        ours = parameters()
        for prefix in ["", "varnet.", "model.varnet."]:
            state = {f"{prefix}{name}": value for name, value in ours.items()} | {"loss.w": None}
            self.assertEqual(convert_checkpoint.fastmri_names(state, "x.ckpt"), (ours, ["loss.w"]))
        with self.assertRaisesRegex(convert_checkpoint.Unusable, "x.ckpt is no VarNet: .*unet.weight"):
            convert_checkpoint.fastmri_names({"unet.weight": None}, "x.ckpt")

    def test_cascades_with_a_gap_are_refused(self):
        state = {name.replace("cascades.0.", "cascades.1."): value for name, value in parameters().items()}
        with self.assertRaisesRegex(convert_checkpoint.Unusable, r"cascades \[1\]"):
            convert_checkpoint.architecture(state, "x.pt")


class Tensor:
    """In place of PyTorch's."""


class Checkpoints(unittest.TestCase):
    def setUp(self):
        patched = mock.patch.object(convert_checkpoint, "torch", SimpleNamespace(Tensor=Tensor))
        patched.start()
        self.addCleanup(patched.stop)

    def test_state_dicts_are_found_where_training_loops_keep_them(self):
        state = {"cascades.0.x": Tensor()}
        network = SimpleNamespace(state_dict=lambda: state)
        for found, about in [
            (state, {}),
            ({"state_dict": state, "epoch": 3, "optimizer_states": []}, {"epoch": "3"}),
            ({"model": state, "optimizer": {}, "epoch": 7}, {"epoch": "7"}),
            ({"model_state_dict": state}, {}),
            (network, {}),
            ({"net": network}, {}),
        ]:
            self.assertEqual(convert_checkpoint.state_dict_of(found, "x.pt"), (state, about))

    def test_what_has_none_is_refused_by_what_it_has(self):
        for found, has in [({"weights": 1, "step": 2}, "a dict with weights, step"), ([1], "a list")]:
            with self.assertRaisesRegex(convert_checkpoint.Unusable, f"x.pt holds {has}.*net.state_dict"):
                convert_checkpoint.state_dict_of(found, "x.pt")


class Arguments(unittest.TestCase):
    def run_without_torch(self, *words):
        # No packages at all.
        command = [sys.executable, "-I", "-S", SCRIPTS / "convert_checkpoint.py", *words]
        return subprocess.run(command, capture_output=True, text=True)

    def test_they_come_before_what_is_missing(self):
        self.assertEqual(self.run_without_torch("--help").returncode, 0)
        done = self.run_without_torch("in.pt")
        self.assertEqual(done.returncode, 2)
        self.assertIn("required: output", done.stderr)

    def test_what_is_missing_is_named_with_its_remedy(self):
        done = self.run_without_torch("in.pt", "out.safetensors")
        self.assertEqual(done.returncode, 2)
        self.assertIn("No module named 'torch'", done.stderr)
        self.assertIn("scripts/setup-python.sh", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
