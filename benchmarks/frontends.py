"""Time the front-ends, forward and backward, and what they keep between.

The convolutions get gradients for a fifth of the tokens, as in training. All
take turns in one process; printed are medians and their ratio to the
convolutions'.

    python benchmarks/frontends.py --threads 1
"""

import argparse
import statistics
import time

import torch

from speechbrain_wavjepa.lobes import (
    BlockMasker,
    ConvFrontend,
    LeafFrontend,
    MelFrontend,
    SincFrontend,
)
from speechbrain_wavjepa.nnet.transformer import map_tensors

WINDOW_SAMPLES = 32160
FRONTENDS = {
    "convolutions": ConvFrontend,
    "LEAF": LeafFrontend,
    "LEAF, filter_stride 4": lambda: LeafFrontend(filter_stride=4),
    "LEAF, filter_stride 4, log": lambda: LeafFrontend(
        compression="log", filter_stride=4
    ),
    "SincNet": SincFrontend,
    "mel": MelFrontend,
}


def run(frontend, waveform, rows):
    """Compute tokens and all gradients."""
    tokens = frontend(waveform, rows)
    tokens.backward(torch.ones_like(tokens))


def saved_mebibytes(frontend, waveform, rows):
    """Measure what a forward pass keeps for the backward pass."""
    storages = {p.untyped_storage().data_ptr() for p in frontend.parameters()}
    storages.add(waveform.untyped_storage().data_ptr())
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        frontend(waveform, rows)
    return sum(sizes.values()) / 2**20


def main():
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    shape = arguments.windows, WINDOW_SAMPLES, 1
    waveform = torch.randn(shape, device=device)
    cases = {}
    for name, make in FRONTENDS.items():
        frontend = make().to(device)
        mask = BlockMasker()(
            arguments.windows, 200, 1, None, frontend.find_gradient_rows
        )
        rows = map_tensors(lambda i: i.to(device), mask.gradient_rows)
        cases[name] = frontend, waveform, rows
    seconds = {name: [] for name in cases}
    for number in range(arguments.rounds + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            run(*case)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    print(
        f"{arguments.windows} windows of {WINDOW_SAMPLES} samples, "
        f"{arguments.threads} thread(s), {device}\n"
    )
    print("| front-end | ms a window | of the convolutions | saved, MiB |")
    print("|---|---|---|---|")
    median = {name: statistics.median(x) for name, x in seconds.items()}
    for name, case in cases.items():
        ratio = median[name] / median["convolutions"]
        milliseconds = 1e3 * median[name] / arguments.windows
        saved = saved_mebibytes(*case) / arguments.windows
        print(f"| {name} | {milliseconds:.0f} | {ratio:.2f} | {saved:.1f} |")


if __name__ == "__main__":
    main()
