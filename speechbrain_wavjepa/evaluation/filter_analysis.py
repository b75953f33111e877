"""What a front-end has learned: its filters, and its answers to tones.

The figures are those of "Learning neural audio features without supervision"
(https://arxiv.org/abs/2203.15519).

Shapes: F filters, K taps or tones, T samples, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from speechbrain_wavjepa.lobes.filterbanks import (
    FilterFrontend,
    LeafStack,
    MelStack,
    SincStack,
)
from speechbrain_wavjepa.lobes.frontends import ConvFrontend, Frontend
from speechbrain_wavjepa.nnet import filters
from speechbrain_wavjepa.processing.audio import standardize
from speechbrain_wavjepa.utils.files import atomic_file
from speechbrain_wavjepa.utils.plots import plot_filters, plot_tone_response

NUM_FREQUENCIES = 512  # at which responses are measured
LOW_HZ, HIGH_HZ = 60.0, 7800.0  # of mel scales to compare with
BOUND_HZ = 10.0
TONES = 64
MAX_SAMPLES = 2**24  # of a window; a stranger's folder cannot ask for more


class FilterTable(NamedTuple):
    """The filters of a channel, sorted by their centers; see the fields.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import LeafFrontend
    >>> table = describe_filters(LeafFrontend(num_filters=40))
    >>> [round(hz) for hz in table.center_hz[:3].tolist()]
    [106, 155, 207]
    """

    center_hz: Tensor  # [F]
    width_hz: Tensor  # [F], of the response at half its height
    frequencies: Tensor  # [512], in Hz
    response: Tensor  # [F, 512], to sines, over its highest value
    parameters: dict[str, Tensor]  # [F] each, of compression and pooling
    number: Tensor  # [F], of each filter in the front-end

    def unsorted(self, name: str) -> Tensor:
        """Give a field in the front-end's order of filters."""
        return getattr(self, name)[self.number.argsort()]


def has_filters(frontend: Frontend) -> bool:
    """Say whether a front-end is of a kind whose filters are known."""
    return isinstance(frontend, (ConvFrontend, FilterFrontend))


@torch.no_grad()
def describe_filters(
    frontend: Frontend, channel: int = 0, sample_rate: Optional[int] = None
) -> FilterTable:
    """Measure the filters of a channel.

    Of ``ConvFrontend`` the first layer: its 10 taps resolve 1.6 kHz only.

    Arguments
    ---------
    frontend : Frontend
    channel : int
    sample_rate : int, optional, in Hz (default: the front-end's own, or 16,000)

    Returns
    -------
    FilterTable

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import MelFrontend
    >>> describe_filters(MelFrontend(num_filters=40)).response.shape
    torch.Size([40, 512])
    """
    sample_rate = sample_rate or _find_rate(frontend)
    stack = frontend.stacks[0 if frontend.share_weights else channel]
    stack = copy.deepcopy(stack).cpu()
    hertz = sample_rate / (2 * math.pi)
    center = width = None
    parameters = {}
    if compression := getattr(stack, "compression", None):
        parameters = dict(compression.named_parameters())
    if isinstance(stack, LeafStack):
        folded, sigma = filters.fold(stack.center), stack.log_width.exp()
        real, imaginary = filters.gabor_kernels(
            folded.double(), sigma.double(), stack.taps
        ).chunk(2)
        response = _respond(torch.complex(real, imaginary))
        center, width = folded * hertz, filters.HALF_WIDTH * sample_rate / sigma
        seconds = stack.taps // 2 / sample_rate
        parameters["pooling_ms"] = 1000 * seconds * stack.pooling
    elif isinstance(stack, SincStack):
        low, high = stack.cutoffs()
        response = _respond(
            filters.sinc_kernels(low.double(), high.double(), stack.taps)
        )
        center, width = (low + high) / 2 * hertz, (high - low) * hertz
    elif isinstance(stack, MelStack):
        # of the power at each frequency of the transform
        power = _respond(stack.kernels.double()).square()
        power = sum(power.chunk(2))
        response = (stack.matrix.double() @ power).sqrt()
    else:
        response = _respond(stack.layers[0].weight[:, 0].double())
    response = response / response.amax(dim=1, keepdim=True)
    frequencies = torch.linspace(
        0, sample_rate / 2, NUM_FREQUENCIES, dtype=torch.float64
    )
    if center is None:
        center = frequencies[response.argmax(dim=1)]
        width = _measure_width(response) * frequencies[1]
    number = center.argsort(stable=True)
    return FilterTable(
        center.double()[number],
        width.double()[number],
        frequencies,
        response[number],
        {name: p.double()[number] for name, p in parameters.items()},
        number,
    )


def describe_channels(
    name: str, frontend: Frontend, sample_rate: Optional[int] = None
) -> dict[str, FilterTable]:
    """Describe all filters of a front-end by its name, and their channel's."""
    if not has_filters(frontend):
        return {}
    names = [name]
    if (count := len(frontend.stacks)) > 1:
        names = [f"{name}, channel {channel + 1}" for channel in range(count)]
    return {
        name: describe_filters(frontend, channel, sample_rate)
        for channel, name in enumerate(names)
    }


def _find_rate(frontend: Frontend) -> int:
    """Find the sample rate that a front-end was made for."""
    return frontend.settings().get("sample_rate", 16000)


def _respond(kernels: Tensor) -> Tensor:
    """Measure kernels [F, K] at frequencies up to half the rate: [F, 512]."""
    taps = torch.arange(kernels.shape[1], dtype=torch.float64)
    angles = torch.linspace(0, math.pi, NUM_FREQUENCIES, dtype=torch.float64)
    waves = torch.polar(torch.ones(()).double(), -torch.outer(taps, angles))
    return (kernels.to(waves.dtype) @ waves).abs()


def _measure_width(response: Tensor) -> Tensor:
    """Count the frequencies around the peak that reach half its height."""
    counts = []
    for row in response:
        peak, below = int(row.argmax()), (row < 0.5).nonzero()[:, 0]
        left = below[below < peak].max() if (below < peak).any() else -1
        right = below[below > peak].min() if (below > peak).any() else len(row)
        counts.append(int(right - left - 1))
    return torch.tensor(counts, dtype=torch.float64)


@torch.no_grad()
def tone_response(
    frontend: Frontend,
    frequencies: Optional[Tensor] = None,
    snr_db: float = 20.0,
    seed: int = 0,
    sample_rate: Optional[int] = None,
) -> tuple[Tensor, Tensor]:
    """Measure how each feature of the tokens answers bursts of tones in noise.

    A steady tone would not do: norms over a window take it away.

    Arguments
    ---------
    frontend : Frontend
        Any; all its channels get the same, the first one is measured.
    frequencies : [K], optional
        In Hz (default: 64, equidistant in mel from 60 to 7,800 Hz).
    snr_db : float
        Level of a tone over the noise.
    seed : int
        Of the noise, the same under each tone.
    sample_rate : int, optional, in Hz (default: as of describe_filters)

    Returns
    -------
    frequencies : [K]
    response : [dim, K]
        Mean with the tone minus mean beside it, over the std in noise alone.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import MelFrontend
    >>> frequencies, response = tone_response(MelFrontend(16, 40))
    >>> response.shape
    torch.Size([16, 64])
    """
    sample_rate = sample_rate or _find_rate(frontend)
    if frequencies is None:
        highest = min(HIGH_HZ, HIGH_HZ / 16000 * sample_rate)
        frequencies = filters.mel_points(TONES, LOW_HZ, highest)
    num_tokens, stride = 100, frontend.stride
    size = frontend.receptive_field + (num_tokens - 1) * stride
    if size > MAX_SAMPLES:
        raise ValueError(
            f"{num_tokens} tokens of this front-end take {size} samples: no "
            "model of sound has tokens that far apart."
        )
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, generator=generator, dtype=torch.float64)
    time = torch.arange(size, dtype=torch.float64) / sample_rate
    start, stop = size * 3 // 8, size * 5 // 8  # the middle quarter
    weight = next(frontend.parameters())
    middle = torch.arange(num_tokens) * stride + frontend.receptive_field / 2
    inside = ((start <= middle) & (middle < stop)).to(weight.device)

    def encode(waveform):
        window = waveform.to(weight)[None, :, None]
        window = window.expand(-1, -1, frontend.channels)
        return frontend(standardize(window))[0, :num_tokens]

    spread = encode(noise).std(dim=0).clamp(min=1e-12)
    amplitude, response = math.sqrt(2 * 10 ** (snr_db / 10)), []
    for frequency in frequencies.tolist():
        burst = amplitude * torch.sin(2 * math.pi * frequency * time)
        burst[:start] = burst[stop:] = 0
        tokens = encode(noise + burst)
        contrast = tokens[inside].mean(dim=0) - tokens[~inside].mean(dim=0)
        response.append((contrast / spread).cpu())
    return frequencies, torch.stack(response, dim=1)


def filter_figures(
    table: FilterTable, initial: Optional[FilterTable] = None
) -> dict:
    """Sum up where filters lie, and how they moved from where they started.

    Arguments
    ---------
    table : FilterTable
    initial : FilterTable, optional
        Before training.

    Returns
    -------
    dict of plain numbers
        mel_distance: mean distance, in mel, from a mel scale.
        at_bounds: filters at 0 Hz or the highest frequency.
        coverage: share of all frequencies that the filters cover.
        moved_hz, moved_width (a ratio): mean distance from the start.
        js_distance: Jensen-Shannon distance (base 2) of the summed responses
        from those at the start.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import LeafFrontend
    >>> table = describe_filters(LeafFrontend(num_filters=40))
    >>> filter_figures(table, table)["moved_hz"]
    0.0
    """
    mel = filters.hz_to_mel(
        filters.mel_points(len(table.center_hz) + 2, LOW_HZ, HIGH_HZ)
    )[1:-1]
    highest = table.frequencies[-1]
    at_bounds = table.center_hz < BOUND_HZ
    at_bounds |= table.center_hz > highest - BOUND_HZ
    total = table.response.square().sum(dim=0)
    coverage = (total >= total.median() / 2).double().mean()
    distance = filters.hz_to_mel(table.center_hz) - mel
    figures = {
        "mel_distance": distance.abs().mean().item(),
        "at_bounds": int(at_bounds.sum()),
        "coverage": coverage.item(),
    }
    if initial is None:
        return figures
    moved = table.unsorted("center_hz") - initial.unsorted("center_hz")
    ratio = table.unsorted("width_hz") / initial.unsorted("width_hz")
    before = initial.response.square().sum(dim=0)
    return {
        **figures,
        "moved_hz": moved.abs().mean().item(),
        "moved_width": ratio.log().abs().mean().exp().item(),
        "js_distance": float(
            jensenshannon(total.numpy(), before.numpy(), base=2)
        ),
    }


def write_filters(
    frontends: Mapping[str, Frontend],
    folder: Union[str, Path],
    initial: Optional[Mapping[str, FilterTable]] = None,
    sample_rate: Optional[int] = None,
) -> None:
    """Draw front-ends by their names: filters.png, filters.json, tones.png.

    Arguments
    ---------
    frontends : Mapping[str, Frontend]
        Of several, each has a NAME-tones.png of its own. Of a kind without
        known filters there are only tones.
    folder : str or Path
    initial : Mapping[str, FilterTable], optional
        Their filters before training, as of ``describe_channels``, where
        they are known.
    sample_rate : int, optional, in Hz (default: as of describe_filters)

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import LeafFrontend
    >>> folder = getfixture("tmp_path")
    >>> write_filters({"LEAF": LeafFrontend(16, 20)}, folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['filters.json', 'filters.png', 'tones.png']
    """
    folder, initial = Path(folder), initial or {}
    tables, tones = {}, {}
    for name, frontend in frontends.items():
        tables |= describe_channels(name, frontend, sample_rate)
        tones[name] = tone_response(frontend, sample_rate=sample_rate)
    figures = {
        name: filter_figures(table, initial.get(name))
        for name, table in tables.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "filters.json") as aside:
        aside.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if tables:
        plot_filters(tables, folder / "filters.png", initial)
    for name, (frequencies, response) in tones.items():
        prefix = f"{name}-" if len(tones) > 1 else ""
        path = folder / f"{prefix}tones.png"
        plot_tone_response(response, frequencies, path)
