"""The front-ends of filters against independent float64 computations."""

import math

import pytest
import torch
from official import STRIDE, read_numbers

from speechbrain_wavjepa.lobes import LeafFrontend, MelFrontend, SincFrontend
from speechbrain_wavjepa.nnet import filters

TINY = {"taps": 33, "stride": 16, "token_samples": 24}
PCEN = ("alpha", "delta", "root", "smooth")
RADIANS = 2 * math.pi / 16000  # per sample, of one Hz


@pytest.fixture(scope="module")
def numbers():
    return {k: v.double() for k, v in read_numbers("filterbanks").items()}


def select(numbers, case):
    """Take the numbers of one case."""
    prefix = f"{case}."
    return {
        key.removeprefix(prefix): value
        for key, value in numbers.items()
        if key.startswith(prefix)
    }


def close(ours, theirs, tolerance=1e-12):
    """Assert closeness relative to the largest value."""
    scale = theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


def open_projection(frontend):
    """Let the filters' outputs through as they are."""
    projection = frontend.stacks[0].projection
    with torch.no_grad():
        projection.weight.copy_(torch.eye(frontend.dim))
        projection.bias.zero_()
    return frontend.stacks[0]


def make_leaf(golden, **options):
    """Make a LEAF with the parameters of a case."""
    count = len(golden["center"])
    frontend = LeafFrontend(count, count, **options).double()
    stack = open_projection(frontend)
    with torch.no_grad():
        stack.center.copy_(golden["center"])
        stack.log_width.copy_(golden["sigma"].log())
        stack.pooling.copy_(golden["width"])
        for name in PCEN:
            getattr(stack.compression, name).copy_(golden[name])
    return frontend, stack


def make_sinc(golden, **options):
    """Make a SincNet with the parameters of a case."""
    count = len(golden["low"])
    frontend = SincFrontend(count, count, **options).double()
    stack = open_projection(frontend)
    with torch.no_grad():
        stack.low.copy_(golden["low"] * RADIANS)
        stack.band.copy_(golden["band"] * RADIANS)
        stack.norm.weight.copy_(golden["weight"])
        stack.norm.bias.copy_(golden["bias"])
    return frontend, stack


def run(frontend, golden):
    """Compute tokens [B, F, N] and all gradients."""
    waveform = golden["waveform"].clone().requires_grad_()
    tokens = frontend(waveform[:, :, None]).transpose(1, 2)
    (tokens * golden["cotangent"]).sum().backward()
    return tokens.detach(), waveform.grad


@pytest.mark.parametrize(
    "case, options, every", [("leaf_tiny", TINY, 1), ("leaf_full", {}, STRIDE)]
)
def test_leaf(numbers, case, options, every):
    golden = select(numbers, case)
    frontend, stack = make_leaf(golden, **options)
    tokens, grad_waveform = run(frontend, golden)
    close(tokens[:, :, ::every], golden["tokens"])
    close(stack.center.grad, golden["grad_center"])
    # of log(sigma): sigma times that of sigma
    close(stack.log_width.grad, golden["sigma"] * golden["grad_sigma"])
    close(stack.pooling.grad, golden["grad_width"])
    for name in PCEN:
        ours = getattr(stack.compression, name).grad
        close(ours, golden[f"grad_{name}"])
    if "grad_waveform" in golden:
        close(grad_waveform, golden["grad_waveform"])
    single = frontend.float()(golden["waveform"][:, :, None])
    single = single.double().transpose(1, 2)[:, :, ::every]
    close(single, golden["tokens"], 2e-5)


def test_parts_of_leaf(numbers):
    golden = select(numbers, "leaf_tiny")
    frontend, stack = make_leaf(golden, **TINY)
    kernels = filters.gabor_kernels(golden["center"], golden["sigma"], 33)
    parts = golden["filters_real"], golden["filters_imag"]
    close(kernels, torch.cat(parts))
    windows = filters.lowpass_windows(golden["width"], 33, 1)
    close(windows, golden["windows"])
    padded = torch.nn.functional.pad(golden["waveform"], (20, 21))
    close(stack.energies(padded[:, None]).detach(), golden["energy"])


def test_sinc(numbers):
    golden = select(numbers, "sinc_tiny")
    frontend, stack = make_sinc(golden, **TINY)
    low, high = (cutoff.detach() / RADIANS for cutoff in stack.cutoffs())
    close(low, golden["left_hz"])
    close(high, golden["right_hz"])
    kernels = filters.sinc_kernels(*stack.cutoffs(), 33)
    close(kernels.detach(), golden["filters"])
    tokens, grad_waveform = run(frontend, golden)
    close(tokens, golden["tokens"])
    close(stack.low.grad * RADIANS, golden["grad_low"])
    close(stack.band.grad * RADIANS, golden["grad_band"])
    close(stack.norm.weight.grad, golden["grad_weight"])
    close(stack.norm.bias.grad, golden["grad_bias"])
    close(grad_waveform, golden["grad_waveform"])


def test_sinc_of_full_size(numbers):
    golden = select(numbers, "sinc_full")
    frontend, _ = make_sinc(golden)
    tokens = frontend(golden["waveform"][:, :, None]).detach()
    close(tokens.transpose(1, 2)[:, :, ::STRIDE], golden["tokens"], 1e-11)


def test_mel(numbers):
    golden = select(numbers, "mel_full")
    frontend = MelFrontend(dim=64)
    open_projection(frontend)
    tokens = frontend(golden["waveform"][:, :, None]).detach().double()
    tokens = tokens.transpose(1, 2)[:, :, ::STRIDE]
    close(tokens, golden["log_energy"], 2e-5)


@pytest.mark.parametrize("count", [40, 64])
def test_mel_filters_to_start_from(numbers, count):
    golden = select(numbers, "initialisation")
    center, width = filters.mel_gabor(count, 60, 7800, 16000)
    close(center / RADIANS, golden[f"leaf{count}_analytic_center_hz"])
    close(width, golden[f"leaf{count}_analytic_sigma"])
    edges = filters.mel_edges(count, 50, 16000)
    close(edges[:-1], golden[f"sinc{count}_low"])
    close(edges.diff(), golden[f"sinc{count}_band"])


@pytest.mark.parametrize("init", ["uniform", "truncated_normal"])
def test_random_filters_to_start_from(numbers, init):
    golden = select(numbers, "initialisation")

    def draws(name):
        if init == "uniform":
            return golden[f"draws_{name}"]
        return filters.stretch(golden[f"draws_normal_{name}"])

    center, width = filters.gabor_from_unit(
        draws("center"), draws("sigma"), 401
    )
    close(center, golden[f"leaf64_{init}_center"])
    close(width, golden[f"leaf64_{init}_sigma"])
    edges = filters.edges_from_unit(draws("edges"), 50, 16000)
    close(edges[:-1], golden[f"sinc64_{init}_low"])
    close(edges.diff(), golden[f"sinc64_{init}_band"])
