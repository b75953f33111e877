"""Time the drawing of block masks, and print their statistics.

BlockMasker, with the indices of the model, against a Python loop over windows
and masks that draws the masks alone: CPU time of one thread, in turn. Then the
paper's table of mask statistics beside ours.

    python benchmarks/masking.py
"""

import statistics
import timeit
from time import process_time

import numpy as np
import torch
from dense_reference import draw_masks_one_by_one as one_by_one

from speechbrain_wavjepa.lobes import BlockMasker

ROUNDS = 20
REPEATS = 20

# (settings, the paper's context and target), arXiv 2509.23238, appendix F
TABLE = (
    ({}, "19.6 [11.5, 30.0]", "22.7 [17.5, 25.0]"),
    ({"target_span": 5}, "18.8 [11.5, 26.5]", "22.8 [19.5, 25.0]"),
    ({"target_span": 15}, "19.9 [11.0, 31.5]", "22.8 [15.5, 30.0]"),
    ({"context_drop_span": 5}, "18.8 [11.5, 27.5]", "22.7 [17.0, 25.0]"),
    ({"context_drop_span": 15}, "19.7 [11.0, 30.5]", "22.7 [17.5, 25.0]"),
    ({"target_prob": 0.15}, "28.1 [18.0, 39.0]", "14.3 [10.5, 15.0]"),
    ({"target_prob": 0.20}, "23.2 [13.5, 34.0]", "18.7 [14.0, 20.0]"),
    ({"target_prob": 0.30}, "16.7 [10.5, 26.5]", "26.6 [21.0, 30.0]"),
)


def print_speed(num_windows):
    """Print the time of a batch of masks both ways, a row of a table."""
    masker, random = BlockMasker(), np.random.default_rng(0)
    ours, loop = [], []
    for _ in range(ROUNDS):
        for times, draw, repeats in (
            (loop, lambda: one_by_one(masker, num_windows, 200, random), 1),
            (ours, lambda: masker(num_windows, 200), REPEATS),
        ):
            seconds = timeit.timeit(draw, timer=process_time, number=repeats)
            times.append(1e3 * seconds / repeats)
    ours, loop = statistics.median(ours), statistics.median(loop)
    print(f"| {num_windows} | {ours:.3f} | {loop:.2f} | {loop / ours:.1f} |")


def describe(mask):
    """Format mean and percentiles of the share of True, in per cent."""
    percent = 100 * mask.double().mean(dim=-1).flatten().numpy()
    low, high = np.percentile(percent, [2.5, 97.5])
    return f"{percent.mean():.1f} [{low:.1f}, {high:.1f}]"


def print_statistics():
    """Print the paper's table beside 20,000 draws of ours."""
    print(
        "\n| settings | context, paper | context, ours | target, paper | "
        "target, ours |\n|---|---|---|---|---|"
    )
    for settings, context, target in TABLE:
        generator = torch.Generator().manual_seed(0)
        drawn = BlockMasker(**settings)(20000, 200, 1, generator)
        name = ", ".join(f"{key} {value}" for key, value in settings.items())
        print(
            f"| {name or 'baseline'} | {context} | "
            f"{describe(drawn.context_mask)} | {target} | "
            f"{describe(drawn.target_masks)} |"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| windows | BlockMasker ms | loop ms | ratio |\n|---|---|---|---|")
    for number in (8, 256):
        print_speed(number)
    print_statistics()
