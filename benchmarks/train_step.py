"""Time one training step against the authors' way of doing it.

Both run in one process, one after the other in each round, on the same
waveforms: masks, forward, backward, gradient clipping, AdamW, EMA. Printed
are medians, their ratio, the parts of the step and the memory that the
forward pass leaves for the backward pass.

    python benchmarks/train_step.py --windows 8 16
    python benchmarks/train_step.py --device cuda --precision bf16 \\
        --windows 256 --compile
    python benchmarks/train_step.py --device cuda --precision bf16 \\
        --windows 128 --channels 2 --compile
"""

import argparse
import statistics
import time
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import torch
from dense_reference import DenseReference, draw_masks_one_by_one

from speechbrain_wavjepa.lobes import (
    BlockMasker,
    ConvFrontend,
    Predictor,
    TargetEncoder,
    WavJEPA,
    masked_mse,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

WINDOW_SAMPLES = 32160
NUM_TOKENS = 200
MASKER = BlockMasker()
OPTIMIZER = {"lr": 4e-4, "betas": (0.9, 0.98), "eps": 1e-6}


def build_model(size, channels):
    """Build WavJEPA: "base" is the paper's ViT-B, "mini" a small one."""
    dim, depth, heads = (768, 12, 12) if size == "base" else (192, 6, 3)
    context_encoder = TransformerEncoder(dim, depth, heads)
    return WavJEPA(
        ConvFrontend(channels=channels),
        context_encoder,
        TargetEncoder(context_encoder, top_k_layers=min(8, depth)),
        Predictor(dim, dim // 2, depth, heads),
    )


class Clock:
    """Adds up the seconds of named parts; waits for the device first."""

    def __init__(self, device):
        self.cuda = device == "cuda"
        self.parts = defaultdict(list)

    def __call__(self, name, function):
        """Run function, book its time under name, return its result."""
        self._wait()
        start = time.perf_counter()
        result = function()
        self._wait()
        self.parts[name].append(time.perf_counter() - start)
        return result

    def _wait(self):
        if self.cuda:
            torch.cuda.synchronize()


class OursStep:
    """One training step of this package."""

    def __init__(self, model, arguments):
        self.model = model
        self.arguments = arguments
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, weight_decay=0.04, fused=True, **OPTIMIZER
        )
        self.generator = torch.Generator().manual_seed(0)

    def masks(self, num_windows):
        """Draw the masks of a batch."""
        find_gradient_rows = self.model.frontend.find_gradient_rows
        mask = MASKER(
            *(num_windows, NUM_TOKENS, self.arguments.channels),
            *(self.generator, find_gradient_rows),
        )
        return mask.to(self.arguments.device, non_blocking=True)

    def loss(self, waveform, mask):
        """Run the forward pass."""
        output = self.model(waveform, mask)
        return masked_mse(output.prediction, output.target, output.mask)

    def update_target(self):
        """Run the EMA."""
        self.model.target_encoder.update(self.model.context_encoder, 0.999)


class ReferenceStep(OursStep):
    """One training step the authors' way."""

    def __init__(self, model, arguments):
        super().__init__(model, arguments)
        self.optimizer = torch.optim.AdamW(
            self.parameters, weight_decay=0.04, **OPTIMIZER
        )
        self.generator = np.random.default_rng(0)

    def masks(self, num_windows):
        """Draw the masks one by one."""
        drawn = draw_masks_one_by_one(
            MASKER, num_windows, NUM_TOKENS, self.generator
        )
        context_mask, target_masks = map(torch.from_numpy, drawn)
        channels = self.arguments.channels
        return SimpleNamespace(
            context_mask=context_mask.repeat(1, channels),
            target_masks=target_masks.repeat(1, 1, channels),
        )

    def loss(self, waveform, mask):
        """Run the forward pass on all tokens."""
        return self.model(waveform, mask)[0]

    def update_target(self):
        """Run the EMA in a loop."""
        self.model.update_teacher(0.999)


def run_step(step, waveform, clock):
    """Run one whole training step under the clock."""
    arguments = step.arguments
    mask = clock("masks", lambda: step.masks(len(waveform)))

    def forward():
        with torch.autocast(
            arguments.device,
            torch.bfloat16,
            enabled=arguments.precision == "bf16",
        ):
            return step.loss(waveform, mask)

    loss = clock("forward", forward)
    clock("backward", loss.backward)
    clock("clip", lambda: torch.nn.utils.clip_grad_norm_(step.parameters, 5.0))
    clock("optimizer", step.optimizer.step)
    step.optimizer.zero_grad(set_to_none=True)
    clock("ema", step.update_target)


def saved_mebibytes(step, waveform):
    """Measure what a forward pass keeps for the backward pass."""
    storages = {}
    parameters = {p.untyped_storage().data_ptr() for p in step.parameters}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    mask = step.masks(len(waveform))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        with torch.autocast(
            step.arguments.device,
            torch.bfloat16,
            enabled=step.arguments.precision == "bf16",
        ):
            loss = step.loss(waveform, mask)
    del loss
    return sum(storages.values()) / 2**20


def measure(num_windows, arguments):
    """Print the table for one number of windows."""
    torch.manual_seed(0)
    model = build_model(arguments.size, arguments.channels)
    model = model.to(arguments.device)
    reference = DenseReference(model).to(arguments.device)
    if arguments.compile:
        # as the recipe's --compile
        for part in (
            model.context_encoder,
            model.target_encoder,
            model.predictor,
        ):
            part.compile(dynamic=True)
        reference.compile()
    steps = {
        "ours": OursStep(model, arguments),
        "reference": ReferenceStep(reference, arguments),
    }
    waveform = torch.randn(
        num_windows,
        WINDOW_SAMPLES,
        arguments.channels,
        device=arguments.device,
    )
    memory = {}
    if not arguments.compile:  # its graphs keep what no hook sees
        memory = {
            name: saved_mebibytes(step, waveform)
            for name, step in steps.items()
        }
    clocks = {name: Clock(arguments.device) for name in steps}
    totals = {name: [] for name in steps}
    peaks = {}
    for round_number in range(arguments.rounds + 1):
        for name, step in steps.items():
            clock = clocks[name] if round_number else Clock(arguments.device)
            if clock.cuda:
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            run_step(step, waveform, clock)
            if round_number:  # the first round warms up
                totals[name].append(time.perf_counter() - start)
            if clock.cuda:
                peaks[name] = torch.cuda.max_memory_allocated() / 2**20
    print(
        f"\n{num_windows} windows, {arguments.channels} channel(s), "
        f"{arguments.size}, {arguments.precision}, "
        f"{'compiled, ' if arguments.compile else ''}"
        f"{arguments.device}, {torch.get_num_threads()} threads, median of "
        f"{arguments.rounds} rounds"
    )
    print("| part | ours ms | reference ms | ratio |\n|---|---|---|---|")
    rows = [
        (part, *(clocks[name].parts[part] for name in steps))
        for part in clocks["ours"].parts
    ]
    rows.append(("whole step", *totals.values()))
    for part, ours, theirs in rows:
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        print(
            f"| {part} | {1e3 * ours:.1f} | {1e3 * theirs:.1f} | "
            f"{theirs / ours:.2f} |"
        )
    ratios = [b / a for a, b in zip(totals["ours"], totals["reference"])]
    print(
        f"\nwhole step, ratio in each round: "
        f"{min(ratios):.2f} to {max(ratios):.2f}; "
        f"{num_windows / statistics.median(totals['ours']):.2f} windows/s"
    )
    for title, values in (("saved for backward", memory), ("peak", peaks)):
        if values:
            print(
                f"memory, {title}: ours {values['ours']:.0f} MiB, reference "
                f"{values['reference']:.0f} MiB, ratio "
                f"{values['ours'] / values['reference']:.3f}"
            )
    if arguments.device == "cuda":
        report_matmul_fraction(
            statistics.median(totals["ours"]), num_windows, arguments
        )


def report_matmul_fraction(seconds, num_windows, arguments):
    """Print the step's useful work as a fraction of the matmul peak."""
    size = 8192
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    matrix = torch.randn(size, size, device="cuda", dtype=dtype)
    clock = Clock("cuda")
    for _ in range(20):
        clock("matmul", lambda: matrix @ matrix)
    peak = 2 * size**3 / statistics.median(clock.parts["matmul"])
    # of a ViT-B window: front-end, context encoder, predictor, target
    # encoder, forward and backward, attended tokens only
    tflop = {1: 28.8 / 256, 2: 29.7 / 128}[arguments.channels]
    useful = 1e12 * tflop * num_windows
    if arguments.size == "base":
        print(
            f"matmul peak {peak / 1e12:.0f} TFLOP/s, step "
            f"{useful / seconds / peak:.3f} of it"
        )


def main():
    """Read the command line and print one table for each batch size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--size", choices=["base", "mini"], default="base")
    parser.add_argument("--channels", type=int, choices=[1, 2], default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    for num_windows in arguments.windows:
        measure(num_windows, arguments)


if __name__ == "__main__":
    main()
