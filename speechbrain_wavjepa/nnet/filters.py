"""Band-pass filters of few parameters, and what compresses their energies.

Sources: LEAF (https://arxiv.org/abs/2101.08596), SincNet
(https://arxiv.org/abs/1808.00158), PCEN (https://arxiv.org/abs/1607.05666).
Frequencies are in radians per sample where nothing else is said.

Shapes: B windows, F filters, K taps (odd), N tokens.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from typing import Union

import torch
from torch import Tensor, nn

# std in samples of a Gabor filter whose response is one sample wide at half
# its height (full width, as a share of the rate)
HALF_WIDTH = math.sqrt(2 * math.log(2)) / math.pi
FLOOR = 1e-5  # of energies
BLOCK = 256  # tokens whose moving averages are one product
MARGIN_HZ = 100  # of SincNet's last edge to the highest frequency
SMALLEST = -60.0  # exponent: 1e-26 of the highest tap

Value = Union[float, Tensor]


def hz_to_mel(hz: Value) -> Tensor:
    """Turn Hz into mel (HTK's)."""
    hz = torch.as_tensor(hz, dtype=torch.float64)
    return 2595 * torch.log10(1 + hz / 700)


def mel_to_hz(mel: Value) -> Tensor:
    """Turn mel into Hz."""
    return 700 * (10 ** (torch.as_tensor(mel, dtype=torch.float64) / 2595) - 1)


def mel_points(count: int, low_hz: float, high_hz: float) -> Tensor:
    """Lay points in Hz that are equidistant in mel."""
    low, high = hz_to_mel(low_hz).item(), hz_to_mel(high_hz).item()
    return mel_to_hz(torch.linspace(low, high, count, dtype=torch.float64))


def gabor_kernels(center: Tensor, width: Tensor, taps: int) -> Tensor:
    """Sample Gabor filters, real parts and then imaginary ones: [2 F, K].

    ``width`` [F] is the std of their envelopes, in samples.
    """
    time = _centred(taps, center)
    width = width.clamp(*gabor_width_range(taps))[:, None]
    # no denormal numbers, which take many times as long on a CPU
    exponent = (-(time**2) / (2 * width**2)).clamp(min=SMALLEST)
    envelope = torch.exp(exponent)
    envelope = envelope / (math.sqrt(2 * math.pi) * width)
    phase = center[:, None] * time
    return torch.cat((envelope * phase.cos(), envelope * phase.sin()))


def gabor_width_range(taps: int) -> tuple[float, float]:
    """Give the narrowest and the widest Gabor filter that taps can hold."""
    return 4 * HALF_WIDTH, taps * HALF_WIDTH


def fold(center: Tensor) -> Tensor:
    """Give the frequency from 0 to pi that a filter's center stands for.

    The energy of a real signal is even and 2 pi-periodic in it.
    """
    return (torch.remainder(center + math.pi, 2 * math.pi) - math.pi).abs()


def lowpass_windows(width: Tensor, taps: int, stride: int) -> Tensor:
    """Sample Gaussian windows for every stride-th energy: [F, taps'].

    ``width`` [F] is their std as a share of half the taps.
    """
    count = (taps - 1) // stride + 1
    place = torch.linspace(-1, 1, count, dtype=width.dtype, device=width.device)
    width = width.clamp(2 / taps, 0.5)[:, None]
    return torch.exp(-((place / width) ** 2) / 2) * stride


def sinc_kernels(low: Tensor, high: Tensor, taps: int) -> Tensor:
    """Sample band-passes between two frequencies [F], in a window: [F, K]."""
    time = _centred(taps, low)
    low, high = low[:, None], high[:, None]
    half = taps // 2
    safe = torch.where(time == 0, 1, time)  # no division by zero
    kernel = (torch.sin(high * time) - torch.sin(low * time)) / safe
    kernel = torch.where(time == 0, high - low, kernel) / (high - low)
    angle = math.pi * (time + half) / half
    return kernel * (0.54 - 0.46 * torch.cos(angle))  # Hamming, symmetric


def _centred(taps: int, like: Tensor) -> Tensor:
    """Number taps from the middle one."""
    half = taps // 2
    return torch.arange(-half, half + 1, dtype=like.dtype, device=like.device)


def mel_gabor(
    num_filters: int, low_hz: float, high_hz: float, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Give centers and widths of Gabor filters as wide as a mel filterbank's.

    In closed form: LEAF counts bins of sampled mel filters, which is up to
    20 % off in width and repeats centers.
    """
    points = mel_points(num_filters + 2, low_hz, high_hz)
    center = 2 * math.pi * points[1:-1] / sample_rate
    return center, (sample_rate / 2) / (points[2:] - points[:-2])


def gabor_from_unit(
    centers: Tensor, widths: Tensor, taps: int
) -> tuple[Tensor, Tensor]:
    """Map numbers from 0 to 1 to Gabor filters: low ones first and widest."""
    narrow, wide = gabor_width_range(taps)
    center = math.pi * centers.sort()[0]
    return center, narrow + (wide - narrow) * widths.sort(descending=True)[0]


def mel_edges(num_filters: int, low_hz: float, sample_rate: int) -> Tensor:
    """Give edges in Hz of SincNet's bands, equidistant in mel."""
    return mel_points(num_filters + 1, low_hz, sample_rate / 2 - MARGIN_HZ)


def edges_from_unit(edges: Tensor, low_hz: float, sample_rate: int) -> Tensor:
    """Map numbers from 0 to 1 to edges in Hz of SincNet's bands."""
    range_hz = sample_rate / 2 - MARGIN_HZ - low_hz
    return low_hz + range_hz * edges.sort()[0]


def mel_matrix(
    num_filters: int,
    n_fft: int,
    low_hz: float,
    high_hz: float,
    sample_rate: int,
) -> Tensor:
    """Sample triangles, equidistant in mel, at n_fft / 2 + 1 frequencies."""
    points = mel_points(num_filters + 2, low_hz, high_hz)[:, None]
    below, peak, above = points[:-2], points[1:-1], points[2:]  # [F, 1]
    hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1).double()
    rising, falling = (
        (hz - below) / (peak - below),
        (above - hz) / (above - peak),
    )
    return torch.minimum(rising, falling).clamp(min=0)


def fourier_kernels(frame: int, n_fft: int) -> Tensor:
    """Sample a Fourier transform under a Hann window: [n_fft + 2, n_fft].

    Cosines, then sines: the window has ``frame`` samples, in the middle. As
    convolutions, since complex numbers do not export.
    """
    before = (n_fft - frame) // 2
    window = torch.hann_window(frame, dtype=torch.float64)
    window = nn.functional.pad(window, (before, n_fft - frame - before))
    time = torch.arange(n_fft, dtype=torch.float64)
    angle = 2 * math.pi / n_fft * torch.outer(time[: n_fft // 2 + 1], time)
    return torch.cat((angle.cos(), angle.sin())) * window


def draw_unit(count: int, init: str) -> Tensor:
    """Draw numbers from 0 to 1 from torch's global generator.

    "uniform", or "truncated_normal": normal ones between 0 and 1, scaled so
    that the least and the greatest become 0 and 1.
    """
    if init == "uniform":
        return torch.rand(count, dtype=torch.float64)
    numbers = torch.empty(count, dtype=torch.float64)
    nn.init.trunc_normal_(numbers, a=0.0, b=1.0)
    return stretch(numbers)


def stretch(numbers: Tensor) -> Tensor:
    """Scale numbers so that the least and the greatest become 0 and 1."""
    low, high = numbers.aminmax()
    return (numbers - low) / (high - low)


class PCEN(nn.Module):
    """Per-channel energy normalisation, all of it learned for each filter.

    Each energy is divided by a power of its moving average, then compressed by
    a root: tokens behind a hidden block know of its energy through the average.
    """

    BOUNDS = {
        "alpha": (0.0, 1.0),
        "delta": (1e-3, math.inf),  # a negative one gives NaN
        "root": (1.0, math.inf),
        "smooth": (1e-4, 1 - 1e-4),
    }

    def __init__(self, num_filters: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((num_filters,), 0.96))
        self.delta = nn.Parameter(torch.full((num_filters,), 2.0))
        self.root = nn.Parameter(torch.full((num_filters,), 2.0))
        self.smooth = nn.Parameter(torch.full((num_filters,), 0.04))

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies [B, F, N]."""
        alpha, delta, root, smooth = (
            getattr(self, name).clamp(*bounds)[:, None]  # [F, 1]
            for name, bounds in self.BOUNDS.items()
        )
        average = moving_average(energy, smooth[:, 0])
        normalised = energy / (1e-12 + average) ** alpha
        return (normalised + delta) ** (1 / root) - delta ** (1 / root)

    @torch.no_grad()
    def constrain(self):
        """Bring parameters back into their bounds."""
        for name, bounds in self.BOUNDS.items():
            getattr(self, name).clamp_(*bounds)


def moving_average(energy: Tensor, smooth: Tensor) -> Tensor:
    """Average energies [B, F, N] exponentially, with weights smooth [F].

    M_0 = E_0, M_n = (1 - s) M_n-1 + s E_n, as products with matrices: a loop
    over tokens takes thousands of launches on a GPU and unrolls in an export.
    """
    decay = torch.log1p(-smooth)[:, None]  # [F, 1]
    averages = [energy[:, :, :1]]  # M before the first token: M_0 is E_0 then
    for block in energy.split(BLOCK, dim=2):  # [B, F, n]: memory grows with N
        time = torch.arange(block.shape[2], device=energy.device)
        age = (time[:, None] - time).clamp(min=0)  # [n, n]
        weights = torch.exp(decay[:, :, None] * age).tril()  # [F, n, n]
        new = torch.einsum("fnk,bfk->bfn", weights, block * smooth[:, None])
        before = averages[-1][:, :, -1:]
        averages.append(new + torch.exp(decay * (time + 1)) * before)
    return torch.cat(averages[1:], dim=2)


class Log(nn.Module):
    """The logarithm of energies; nothing is learned."""

    def __init__(self, num_filters: int, offset: float = 0.0):
        super().__init__()
        self.offset = offset

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies [B, F, N]."""
        return torch.log(energy + self.offset)

    def constrain(self):
        """Do nothing: there are no bounds."""


class Log1p(nn.Module):
    """The logarithm of 1 + 10^a energy, with a learned for each filter."""

    def __init__(self, num_filters: int):
        super().__init__()
        self.exponent = nn.Parameter(torch.full((num_filters,), 5.0))

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies [B, F, N]."""
        return torch.log1p(10 ** self.exponent[:, None] * energy)

    def constrain(self):
        """Do nothing: there are no bounds."""


COMPRESSIONS = {"pcen": PCEN, "log": Log, "log1p": Log1p}
