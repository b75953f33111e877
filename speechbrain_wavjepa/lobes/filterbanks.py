"""Front-ends of filters: LEAF, SincNet and mel, on WavJEPA's token grid.

Few parameters instead of a stack of convolutions. Sources: LEAF
(https://arxiv.org/abs/2101.08596), SincNet (https://arxiv.org/abs/1808.00158),
"Learning neural audio features without supervision"
(https://arxiv.org/abs/2203.15519).

Filters are longer than the samples a token stands for, so that context tokens
beside a hidden block perceive up to 18 ms of it, and the outer tokens of a
window some of the zeros around it.

Shapes: B windows, T samples, C channels, F filters, N tokens of a channel.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, leaky_relu, max_pool1d
from torch.utils.checkpoint import checkpoint

from speechbrain_wavjepa.lobes.frontends import check_waveform
from speechbrain_wavjepa.nnet import filters
from speechbrain_wavjepa.nnet.transformer import initialize_linear

INITIALIZATIONS = ("mel", "uniform", "truncated_normal")


class FilterFrontend(nn.Module):
    """What the front-ends of filters have in common.

    The waveform is padded once, so that token n is centred where
    ``ConvFrontend`` has it; the stack of each channel pads nothing. All is
    computed in float32 at least, whatever autocast says.
    """

    find_gradient_rows = None  # gradients flow through the whole window

    def __init__(
        self,
        make_stack: Callable[[], nn.Module],
        settings: dict[str, Any],
        reach: int,
    ):
        super().__init__()
        self._settings = settings
        self.dim, self.channels = settings["dim"], settings["channels"]
        self.share_weights = settings["share_weights"]
        self.stride = settings["stride"]
        self.receptive_field = settings["token_samples"]
        self.padding = reach - self.receptive_field
        if self.padding < 0:
            raise ValueError(
                f"Filters over {reach} samples are shorter than token_samples="
                f"{self.receptive_field}: make them longer or lower it."
            )
        count = 1 if self.share_weights else self.channels
        self.stacks = nn.ModuleList(make_stack() for _ in range(count))

    def num_tokens(self, num_samples: int) -> int:
        """Return how many tokens a channel of num_samples gives."""
        return max((num_samples - self.receptive_field) // self.stride + 1, 0)

    def forward(self, waveform: Tensor, gradient_rows: Any = None) -> Tensor:
        """Turn windows [B, T, C] into tokens [B, C*N, dim]."""
        check_waveform(self, waveform)
        half = self.padding // 2
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = waveform.to(self.stacks[0].projection.weight.dtype)
            padded = nn.functional.pad(
                waveform.transpose(1, 2), (half, self.padding - half)
            )
            stacks = list(self.stacks) * (self.channels // len(self.stacks))
            channels = zip(stacks, padded.unbind(dim=1))
            tokens = [stack(channel[:, None]) for stack, channel in channels]
        return torch.cat(tokens, dim=1)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that build it again, with new filters."""
        return dict(self._settings)

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """List the parameters that weight decay would pull to 0 Hz."""
        return [
            parameter
            for name, parameter in self.named_parameters()
            if not name.split(".")[2].startswith(("projection", "norm"))
        ]

    def constrain(self):
        """Bring filters back into their bounds, after each step."""
        for stack in self.stacks:
            stack.constrain()


class LeafFrontend(FilterFrontend):
    """LEAF: Gabor filters, their energies, a Gaussian low-pass, compression.

    Centers, widths, low-passes and the compression of every filter are
    learned, then a linear map to ``dim``. Centers are not clamped: a filter
    that crosses 0 Hz or the highest frequency returns as its mirror.

    Arguments
    ---------
    dim : int
        Size of a token.
    num_filters : int
    init : str
        Filters to start from: "mel", "uniform" or "truncated_normal".
    compression : str
        "pcen" (LEAF's, with a moving average), "log" or "log1p".
    channels : int
        Channels of the waveform; each has filters of its own.
    share_weights : bool
        Whether all channels use the same filters.
    taps : int
        Samples of a filter, odd.
    stride, token_samples : int
        Samples from a token to the next, and that a token stands for.
    filter_stride : int
        Samples from an energy to the next; 1 as published, 4 takes a quarter
        of the time. Must divide stride and taps - 1.
    min_hz, max_hz : float
        Range of the mel filters.
    sample_rate : int

    Raises
    ------
    ValueError
        If sizes do not fit the grid, or a setting is unknown.

    Example
    -------
    >>> frontend = LeafFrontend(dim=16, num_filters=8, filter_stride=4)
    >>> frontend(torch.randn(2, 32160, 1)).shape
    torch.Size([2, 200, 16])
    """

    def __init__(
        self,
        dim: int = 512,
        num_filters: int = 64,
        init: str = "mel",
        compression: str = "pcen",
        channels: int = 1,
        share_weights: bool = False,
        taps: int = 401,
        stride: int = 160,
        token_samples: int = 240,
        filter_stride: int = 1,
        min_hz: float = 60.0,
        max_hz: float = 7800.0,
        sample_rate: int = 16000,
    ):
        settings = {
            "dim": dim,
            "num_filters": num_filters,
            "init": init,
            "compression": compression,
            "channels": channels,
            "share_weights": share_weights,
            "taps": taps,
            "stride": stride,
            "token_samples": token_samples,
            "filter_stride": filter_stride,
            "min_hz": min_hz,
            "max_hz": max_hz,
            "sample_rate": sample_rate,
        }
        check_filters(settings)
        if stride % filter_stride or (taps - 1) % filter_stride:
            raise ValueError(
                f"filter_stride={filter_stride} must divide stride={stride} "
                f"and taps - 1 = {taps - 1}."
            )
        super().__init__(lambda: LeafStack(settings), settings, 2 * taps - 1)


class LeafStack(nn.Module):
    """The Gabor filters of one channel, settings as of LeafFrontend."""

    def __init__(self, settings):
        super().__init__()
        count, self.taps = settings["num_filters"], settings["taps"]
        self.stride = settings["stride"]
        self.filter_stride = settings["filter_stride"]
        if (init := settings["init"]) == "mel":
            center, width = filters.mel_gabor(
                count,
                settings["min_hz"],
                settings["max_hz"],
                settings["sample_rate"],
            )
        else:
            draws = [filters.draw_unit(count, init) for _ in range(2)]
            center, width = filters.gabor_from_unit(*draws, self.taps)
        self.center = nn.Parameter(center.float())
        self.log_width = nn.Parameter(width.log().float())
        self.pooling = nn.Parameter(torch.full((count,), 0.4))
        self.compression = filters.COMPRESSIONS[settings["compression"]](count)
        self.projection = nn.Linear(count, settings["dim"])
        initialize_linear(self.projection)

    def energies(self, waveform: Tensor) -> Tensor:
        """Measure energies [B, F, N] of padded waveforms [B, 1, T]."""
        kernels = filters.gabor_kernels(
            self.center, self.log_width.exp(), self.taps
        )
        stride = self.filter_stride
        parts = conv1d(waveform, kernels[:, None], stride=stride)
        energy = parts.square().unflatten(1, (2, -1)).sum(dim=1)
        windows = filters.lowpass_windows(self.pooling, self.taps, stride)
        energy = conv1d(
            energy,
            windows[:, None],
            stride=self.stride // stride,
            groups=len(windows),
        )
        return energy.clamp(min=filters.FLOOR)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn padded waveforms [B, 1, T] into tokens [B, N, dim]."""
        if torch.is_grad_enabled():  # computed again: 12 MiB a window less
            compressed = checkpoint(
                self.compress,
                waveform,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing in it is random
            )
        else:
            compressed = self.compress(waveform)
        return self.projection(compressed.transpose(1, 2))

    def compress(self, waveform: Tensor) -> Tensor:
        """Measure energies and compress them: [B, F, N]."""
        return self.compression(self.energies(waveform))

    @torch.no_grad()
    def constrain(self):
        """Bring widths and compression back into their bounds."""
        # a rounding within the clamps of the forward pass, which let no
        # gradient through beyond
        low, high = map(math.log, filters.gabor_width_range(self.taps))
        self.log_width.clamp_(low + 1e-6, high - 1e-6)
        self.pooling.clamp_(2 / self.taps, 0.5)
        self.compression.constrain()


class SincFrontend(FilterFrontend):
    """SincNet: band-passes of two learned cut-off frequencies each.

    Their outputs pass a leaky ReLU, max-pooling, a norm over the filters, then
    a linear map to ``dim``.

    Arguments
    ---------
    dim, num_filters, init, channels, share_weights, taps, stride :
        As those of LeafFrontend.
    token_samples : int
        Samples that a token stands for.
    min_low_hz, min_band_hz : float
        Lowest frequency of a filter, and its smallest band.
    sample_rate : int

    Raises
    ------
    ValueError
        If sizes do not fit the grid, or a setting is unknown.

    Example
    -------
    >>> frontend = SincFrontend(dim=16, num_filters=8)
    >>> frontend(torch.randn(2, 32160, 1)).shape
    torch.Size([2, 200, 16])
    """

    def __init__(
        self,
        dim: int = 512,
        num_filters: int = 64,
        init: str = "mel",
        channels: int = 1,
        share_weights: bool = False,
        taps: int = 401,
        stride: int = 160,
        token_samples: int = 240,
        min_low_hz: float = 50.0,
        min_band_hz: float = 50.0,
        sample_rate: int = 16000,
    ):
        settings = {
            "dim": dim,
            "num_filters": num_filters,
            "init": init,
            "channels": channels,
            "share_weights": share_weights,
            "taps": taps,
            "stride": stride,
            "token_samples": token_samples,
            "min_low_hz": min_low_hz,
            "min_band_hz": min_band_hz,
            "sample_rate": sample_rate,
        }
        check_filters(settings)
        super().__init__(lambda: SincStack(settings), settings, 2 * taps - 1)


class SincStack(nn.Module):
    """The band-passes of one channel, settings as of SincFrontend."""

    def __init__(self, settings):
        super().__init__()
        count, rate = settings["num_filters"], settings["sample_rate"]
        self.taps, self.stride = settings["taps"], settings["stride"]
        self.unit = 2 * math.pi / rate  # radians per sample, of one Hz
        self.min_low = self.unit * settings["min_low_hz"]
        self.min_band = self.unit * settings["min_band_hz"]
        if (init := settings["init"]) == "mel":
            edges = filters.mel_edges(count, settings["min_low_hz"], rate)
        else:
            draws = filters.draw_unit(count + 1, init)
            edges = filters.edges_from_unit(draws, settings["min_low_hz"], rate)
        edges = self.unit * edges
        # in radians per sample: in Hz, a step of Adam would move nothing
        self.low = nn.Parameter(edges[:-1].float())
        self.band = nn.Parameter(edges.diff().float())
        self.norm = nn.LayerNorm(count, eps=1e-5)
        self.projection = nn.Linear(count, settings["dim"])
        initialize_linear(self.projection)

    def cutoffs(self) -> tuple[Tensor, Tensor]:
        """Return both cut-off frequencies [F] in radians per sample."""
        low = self.min_low + self.low.abs()
        low = low.clamp(max=math.pi - self.min_band)
        high = low + self.min_band + self.band.abs()
        return low, high.clamp(max=math.pi)

    def energies(self, waveform: Tensor) -> Tensor:
        """Measure the peaks [B, F, N] of padded waveforms [B, 1, T]."""
        kernels = filters.sinc_kernels(*self.cutoffs(), self.taps)
        filtered = leaky_relu(conv1d(waveform, kernels[:, None]), 0.2)
        peaks = max_pool1d(filtered, self.taps, self.stride)
        return peaks.clamp(min=filters.FLOOR)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn padded waveforms [B, 1, T] into tokens [B, N, dim]."""
        peaks = self.energies(waveform).transpose(1, 2)
        return self.projection(self.norm(peaks))

    @torch.no_grad()
    def constrain(self):
        """Bring the cut-off frequencies back below the highest frequency."""
        # a rounding below the clamp of ``cutoffs``, which has no gradient above
        highest = (math.pi - self.min_low - self.min_band) * (1 - 1e-6)
        self.low.clamp_(-highest, highest)
        self.band.clamp_(-math.pi, math.pi)


class MelFrontend(FilterFrontend):
    """Fixed mel filters; only the linear map to ``dim`` is learned.

    A power spectrum, triangles equidistant in mel (HTK's, not normed), then a
    compression.

    Arguments
    ---------
    dim, num_filters, channels, share_weights, stride, token_samples :
        As those of LeafFrontend.
    compression : str
        "log", "log1p" or "pcen", which is learned.
    frame, n_fft : int
        Samples of the Hann window and of the Fourier transform.
    min_hz, max_hz : float
        Range of the filters.
    sample_rate : int

    Raises
    ------
    ValueError
        If sizes do not fit the grid, a filter has no frequency of its own, or
        a setting is unknown.

    Example
    -------
    >>> frontend = MelFrontend(dim=16, num_filters=40)
    >>> frontend(torch.randn(2, 32160, 1)).shape
    torch.Size([2, 200, 16])
    """

    def __init__(
        self,
        dim: int = 512,
        num_filters: int = 64,
        compression: str = "log",
        channels: int = 1,
        share_weights: bool = False,
        frame: int = 400,
        n_fft: int = 512,
        stride: int = 160,
        token_samples: int = 240,
        min_hz: float = 60.0,
        max_hz: float = 7800.0,
        sample_rate: int = 16000,
    ):
        settings = {
            "dim": dim,
            "num_filters": num_filters,
            "compression": compression,
            "channels": channels,
            "share_weights": share_weights,
            "frame": frame,
            "n_fft": n_fft,
            "stride": stride,
            "token_samples": token_samples,
            "min_hz": min_hz,
            "max_hz": max_hz,
            "sample_rate": sample_rate,
        }
        check_filters(settings)
        super().__init__(lambda: MelStack(settings), settings, n_fft)


class MelStack(nn.Module):
    """The mel filters of one channel, settings as of MelFrontend."""

    def __init__(self, settings):
        super().__init__()
        count, self.stride = settings["num_filters"], settings["stride"]
        n_fft = settings["n_fft"]
        matrix = filters.mel_matrix(
            count,
            n_fft,
            settings["min_hz"],
            settings["max_hz"],
            settings["sample_rate"],
        )
        if not (bins := matrix.sum(dim=1)).all():
            raise ValueError(
                f"Mel filter {int(bins.argmin())} of {count} has no frequency "
                f"of n_fft={n_fft}: raise n_fft or lower num_filters."
            )
        kernels = filters.fourier_kernels(settings["frame"], n_fft)
        # of sizes only: not in the state dict
        self.register_buffer("matrix", matrix.float(), persistent=False)
        self.register_buffer("kernels", kernels.float(), persistent=False)
        name = settings["compression"]
        options = {"offset": filters.FLOOR} if name == "log" else {}
        self.compression = filters.COMPRESSIONS[name](count, **options)
        self.projection = nn.Linear(count, settings["dim"])
        initialize_linear(self.projection)

    def energies(self, waveform: Tensor) -> Tensor:
        """Measure energies [B, F, N] of padded waveforms [B, 1, T]."""
        parts = conv1d(waveform, self.kernels[:, None], stride=self.stride)
        power = parts.square().unflatten(1, (2, -1)).sum(dim=1)
        return self.matrix @ power

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn padded waveforms [B, 1, T] into tokens [B, N, dim]."""
        compressed = self.compression(self.energies(waveform))
        return self.projection(compressed.transpose(1, 2))

    def constrain(self):
        """Bring the compression back into its bounds."""
        self.compression.constrain()


def check_filters(settings: dict[str, Any]):
    """Refuse settings that no filters have."""
    for name, known in (
        ("init", INITIALIZATIONS),
        ("compression", tuple(filters.COMPRESSIONS)),
    ):
        if settings.get(name, known[0]) not in known:
            raise ValueError(
                f"{name}={settings[name]!r} must be one of {known}."
            )
    least = {"num_filters": 2, "stride": 1, "token_samples": 1}
    least |= {"taps": 3, "filter_stride": 1, "frame": 1, "n_fft": 2}
    for name, value in least.items():
        if settings.get(name, value) < value:
            raise ValueError(
                f"{name}={settings[name]} must be {value} or more."
            )
    taps, n_fft = settings.get("taps", 1), settings.get("n_fft", 2**20)
    if taps % 2 == 0 or n_fft % 2 or settings.get("frame", 1) > n_fft:
        raise ValueError(
            f"taps={taps} must be odd, n_fft={n_fft} even, and frame="
            f"{settings.get('frame')} no longer than that."
        )
    highest = settings["sample_rate"] / 2
    if "min_hz" in settings:
        low, high = settings["min_hz"], settings["max_hz"]
    else:  # the lowest band, and where the last one begins
        low = settings["min_low_hz"] + settings["min_band_hz"]
        high = highest - filters.MARGIN_HZ
    if not 0 < low < high <= highest:
        raise ValueError(
            f"Filters from {low} to {high} Hz must lie above 0 and up to "
            f"{highest} Hz, half of sample_rate={settings['sample_rate']}."
        )
