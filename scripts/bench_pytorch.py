#!/usr/bin/env python3
"""Times fastMRI's VarNet in PyTorch, alone or in alternation with kerase, and prints JSON.

    .venv/bin/python scripts/bench_pytorch.py --cascades 6 --chans 9 --coils 8 --height 320 --width 184
    .venv/bin/python scripts/bench_pytorch.py --rounds 3 --alternate 'target/release/kerase bench --step --json'
    .venv/bin/python scripts/bench_pytorch.py --device cuda --matmul high --channels-last --compile

A training step is forward, SSIM loss, backward, gradient norm, clip and Adam, on one slice. On a GPU, as in kerase's, the
next slice comes from pinned memory meanwhile, and the loss is read back; of an inference, the image.

With --alternate, each round runs the given command and then this program in a process of its own; the shape and --mode are
appended to the command, and where it names none itself --iters, --warm-up, --device and the --precision that PyTorch is
allowed, so both time the same. The command prints a JSON object with any of train_seconds, inference_seconds and
peak_rss_mb as its last output. Memory is in MiB, also where a key says mb.

On the CPU, PyTorch is timed as it is fastest: glibc is told to keep freed memory instead of returning it to the
system, which otherwise costs PyTorch 10 to 40 % in page faults.
"""

import argparse
import ctypes
import datetime
import json
import os
import platform
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "34359738368",
    "MALLOC_TRIM_THRESHOLD_": "34359738368",
    "MALLOC_TOP_PAD_": "268435456",
}
SHAPE = {  # of the network and the slice; the defaults are the paper's network on a fastMRI brain slice
    "cascades": 12,
    "chans": 18,
    "pools": 4,
    "sens-chans": 8,
    "sens-pools": 4,
    "coils": 16,
    "height": 640,
    "width": 368,
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in SHAPE.items():
        parser.add_argument(f"--{name}", type=positive, default=default, help=f"(default {default})")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), help="CPU threads (default: all)")
    parser.add_argument("--iters", type=positive, default=5, help="timed repetitions, after one that is not (default 5)")
    parser.add_argument("--mode", choices=["train", "inference", "both"], default="both")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu); of --alternate's command too")
    parser.add_argument("--matmul", choices=["highest", "high", "medium"], default="highest", help="PyTorch's float32 matmul and convolution precision; high and medium allow TF32 (default highest)")
    parser.add_argument("--autocast", choices=["off", "bf16"], default="off", help="bf16: convolutions in bfloat16, by torch.autocast (default off)")
    parser.add_argument("--channels-last", action="store_true", help="keep feature maps with channels innermost")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network; compiling is not timed")
    parser.add_argument("--resident", action="store_true", help="time steps on a slice that stays on the GPU, and read nothing back")
    parser.add_argument("--alternate", metavar="COMMAND", help="a command of kerase to time in turn with PyTorch")
    parser.add_argument("--rounds", type=positive, default=3, help="rounds of --alternate (default 3)")
    parser.add_argument("--warm-up", type=positive, default=1, help="untimed runs before the timed ones (default 1)")
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="begin no round that would end later, going by the longest so far"
    )
    return parser.parse_args()


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def shape_arguments(args):
    return [part for name in SHAPE for part in (f"--{name}", str(getattr(args, name.replace("-", "_"))))]


# --- timing PyTorch -------------------------------------------------------------------------------------------------


class Clock:
    """Times a callable; on CUDA it waits for the device, on the CPU there is nothing to wait for."""

    def __init__(self, torch, device):
        on_cuda = device.type == "cuda"
        self.wait = (lambda: torch.cuda.synchronize(device)) if on_cuda else (lambda: None)
        self.forget_peak = (lambda: torch.cuda.reset_peak_memory_stats(device)) if on_cuda else (lambda: None)

    def times(self, run, iterations, warm_up=1):
        """`warm_up` runs go before; what they took of the device's memory to choose algorithms is not counted."""
        for _ in range(warm_up):
            run()
        self.wait()
        self.forget_peak()
        found = []
        for _ in range(iterations):
            start = time.perf_counter()
            run()
            self.wait()
            found.append(time.perf_counter() - start)
        return found


def random_slice(torch, args):
    """k-space of smooth noise, a mask of every 8th column and the centre, and a target: values do not change the time,
    but denormals and NaN would."""
    generator = torch.Generator().manual_seed(0)
    kspace = 1e-4 * torch.randn(1, args.coils, args.height, args.width, 2, generator=generator)
    low = max(1, round(0.04 * args.width))
    start = (args.width - low + 1) // 2
    mask = torch.zeros(1, 1, 1, args.width, 1, dtype=torch.bool)
    mask[..., ::8, :] = True
    mask[..., start : start + low, :] = True
    side = min(args.height, args.width, 320)
    target = 1e-4 * torch.rand(1, side, side, generator=generator)
    return [kspace * mask, mask, target, target.amax().reshape(1).double()], low


class Slices:
    """Brings the slice to a GPU for each step, while the step before is at work, and results back; not if `resident`."""

    def __init__(self, torch, values, device, resident):
        self.torch, self.device, self.resident = torch, device, resident
        self.host = values if resident else [value.pin_memory() for value in values]
        self.stream = None if resident else torch.cuda.Stream(device)
        self.coming = [value.to(device) for value in values]

    def take(self):
        if not self.resident:
            stream = self.torch.cuda.current_stream(self.device)
            stream.wait_stream(self.stream)
            for value in self.coming:
                value.record_stream(stream)
        return self.coming

    def bring(self):
        if not self.resident:
            with self.torch.cuda.stream(self.stream):
                self.coming = [value.to(self.device, non_blocking=True) for value in self.host]

    def read(self, result):
        return result if self.resident else result.cpu()


def time_pytorch(args):
    import torch
    from fastmri.data.transforms import center_crop_to_smallest
    from fastmri.losses import SSIMLoss
    from fastmri.models import VarNet

    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device: is this its CPU build, or the driver missing?")
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(args.matmul)
    torch.backends.cudnn.allow_tf32 = args.matmul != "highest"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)

    net = VarNet(args.cascades, args.sens_chans, args.sens_pools, args.chans, args.pools).to(device)
    loss_function = SSIMLoss().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    if args.channels_last:
        net = net.to(memory_format=torch.channels_last)
    compiled = torch.compile(net) if args.compile else net

    values, low = random_slice(torch, args)
    # On the CPU it is where it is needed.
    resident = args.resident or device.type != "cuda"
    slices = Slices(torch, values, device, resident)

    def forward(kspace, mask):
        with torch.autocast(device.type, torch.bfloat16, enabled=args.autocast == "bf16"):
            return compiled(kspace, mask, low)

    def train():
        kspace, mask, target, max_value = slices.take()
        optimizer.zero_grad(set_to_none=True)
        cropped, output = center_crop_to_smallest(target, forward(kspace, mask).float())
        loss = loss_function(output.unsqueeze(1), cropped.unsqueeze(1), data_range=max_value)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        slices.bring()
        return slices.read(loss.detach())

    def inference():
        kspace, mask, *_ = slices.take()
        with torch.inference_mode():
            image = forward(kspace, mask)
        # What is made in that mode could not be trained on.
        slices.bring()
        return slices.read(image)

    clock = Clock(torch, device)
    result = {
        "program": f"PyTorch {torch.__version__}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {args.threads} threads",
        "matmul": args.matmul,
        "autocast": args.autocast,
        "channels_last": args.channels_last,
        "compile": args.compile,
        "resident": resident,
        **{name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in SHAPE},
        "parameters": sum(p.numel() for p in net.parameters()),
        "iters": args.iters,
    }
    # Inference first: ru_maxrss only ever rises, and training needs the most.
    for name, run in (("inference", inference), ("train", train)):
        if args.mode not in (name, "both"):
            continue
        times = clock.times(run, args.iters, args.warm_up)
        result[f"{name}_seconds"] = statistics.median(times)
        result[f"{name}_seconds_min"] = min(times)
        result[f"{name}_peak_rss_mb"] = peak_rss_mb()
        if device.type == "cuda":
            result[f"{name}_peak_device_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    result["peak_rss_mb"] = peak_rss_mb()
    return result


def peak_rss_mb():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


# --- side by side ---------------------------------------------------------------------------------------------------


def last_json(text, what):
    """The JSON object that ends the output: a program may print lines of its own before it."""
    for start in (i for i, c in enumerate(text) if c == "{" and (i == 0 or text[i - 1] == "\n")):
        try:
            value = json.loads(text[start:])
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            return value
    sys.exit(f"{what} printed no JSON object, but:\n{text[-2000:]}")


def tied():
    """For a child's preexec_fn: has the child end with this process, however this one ends. Linux alone knows of it."""
    if not sys.platform.startswith("linux"):
        return None
    # All that may take a lock is done before the fork.
    prctl, parent, set_parent_death_signal = ctypes.CDLL(None).prctl, os.getpid(), 1

    def tie():
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            # It ended before.
            os.kill(os.getpid(), signal.SIGKILL)

    return tie


def run_json(command, environment):
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=tied())
    if done.returncode != 0:
        sys.exit(f"failed with exit code {done.returncode}: {shlex.join(command)}")
    return last_json(done.stdout, shlex.join(command))


def commit():
    """The checkout that this script is in, with a plus where it has changes."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    try:
        options = {"capture_output": True, "text": True, "check": True, "preexec_fn": tied()}
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], **options)
        changes = subprocess.run([*git, "status", "--porcelain"], **options)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def machine():
    cores = len(os.sched_getaffinity(0))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {cores} cores"


def option(command, name):
    """What an option of a command is, or None."""
    for i, word in enumerate(command):
        if word == name:
            return command[i + 1] if i + 1 < len(command) else ""
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def on_gpu(device):
    return device.startswith("cuda")


def same_kind(ours, args):
    """Ends where one alone of the two is on a GPU."""
    if on_gpu(ours) != on_gpu(args.device):
        sys.exit(f"kerase computes on {ours}, and PyTorch on {args.device}: --device has to give both a GPU, or neither")


def kerase_command(args):
    """The command of --alternate for what PyTorch is asked for."""
    command = shlex.split(args.alternate)
    device = option(command, "--device")
    if device is None:
        device = args.device
        command += ["--device", device]
    if device != "auto":
        same_kind(device, args)
    if on_gpu(args.device) and option(command, "--precision") is None:
        allowed = "bf16" if args.autocast == "bf16" else "fp32" if args.matmul == "highest" else "tf32"
        command += ["--precision", allowed]
    for name, value in [("--iters", args.iters), ("--warm-up", args.warm_up)]:
        if option(command, name) is None:
            command += [name, str(value)]
    return command + [*shape_arguments(args), "--mode", args.mode]


def alternate(args):
    """Alternating rounds see the same clock frequency, temperature and neighbours."""
    ours = kerase_command(args)
    theirs = [sys.executable, __file__, *shape_arguments(args)]
    for name in ("threads", "iters", "warm-up", "mode", "device", "matmul", "autocast"):
        theirs += [f"--{name}", str(getattr(args, name.replace("-", "_")))]
    theirs += ["--channels-last"] * args.channels_last + ["--compile"] * args.compile + ["--resident"] * args.resident
    plain = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
    plain.setdefault("RAYON_NUM_THREADS", str(args.threads))

    runs = {"kerase": [], "pytorch": []}
    began, longest = time.monotonic(), 0.0
    for i in range(args.rounds):
        started = time.monotonic()
        if i > 0 and args.budget is not None and started + longest > began + args.budget:
            print(f"no time for round {i + 1}", file=sys.stderr)
            break
        runs["kerase"].append(run_json(ours, plain))
        # Which --device auto is, only the run says.
        same_kind(runs["kerase"][-1].get("device", args.device), args)
        runs["pytorch"].append(run_json(theirs, {**os.environ, **ALLOCATOR}))
        longest = max(longest, time.monotonic() - started)
        print(f"round {i + 1} of {args.rounds} done", file=sys.stderr)

    result = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "command": shlex.join(ours),
        "rounds": len(runs["pytorch"]),
        "runs": runs,
        "median": {},
        "pytorch_over_kerase": {},
    }
    memory = ("train_peak_device_mb", "inference_peak_device_mb", "peak_rss_mb")
    for key in ("train_seconds", "inference_seconds", *memory):
        both = {name: [run[key] for run in found if run.get(key) is not None] for name, found in runs.items()}
        if all(both.values()):
            median = {name: statistics.median(values) for name, values in both.items()}
            result["median"][key] = median
            result["pytorch_over_kerase"][key] = median["pytorch"] / median["kerase"]
    if not result["pytorch_over_kerase"]:
        sys.exit("nothing to compare: the command's JSON has neither train_seconds nor inference_seconds nor peak_rss_mb")
    return result


def main():
    args = parse()
    if args.alternate:
        print(json.dumps(alternate(args), indent=2))
        return
    if args.device == "cpu" and any(os.environ.get(key) != value for key, value in ALLOCATOR.items()):
        # The allocator reads these when the process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    print(json.dumps(time_pytorch(args), indent=2))


if __name__ == "__main__":
    main()
