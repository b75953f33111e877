"""Levels, rates and channels: the only home of each.

Pretraining and evaluation use the same, so that they cannot drift apart. The
filter and the level are those of WavJEPA (https://arxiv.org/abs/2509.23238).

Shapes: B clips or windows, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import math
from typing import Optional

import soxr
import torch
from torch import Tensor

# Rates that audio files really have; the exact sinc filter between two of
# them is small. For any other rate it is not (2.7 GiB for 44,101 Hz).
USUAL_RATES = {8000, 12000, 16000, 24000, 32000, 48000, 96000}
USUAL_RATES |= {11025, 22050, 44100, 88200}
MAX_CHANNELS = 4  # first-order ambisonics
EPS = 1e-5  # added to the std, so that silence stays finite
MIN_RATE = 1000  # Hz; whatever is slower is not sound

# The authors' filter, known as "kaiser best".
FILTER_WIDTH = 64
ROLLOFF = 0.9475937167399596
KAISER_BETA = 14.769656459379492
MIN_PHASES = 128  # positions a row computes: the speed of a matrix product

Lengths = Optional[Tensor]  # [B], of clips relative to the longest


def resample(waveform: Tensor, orig_rate: int, new_rate: int) -> Tensor:
    """Change the sample rate: to [ceil(T * new_rate / orig_rate), C].

    Between usual rates the filter is the authors' sinc in a Kaiser window, 64
    zero crossings wide; any other rate goes through soxr in its best quality.

    Arguments
    ---------
    waveform : [T, C]
    orig_rate, new_rate : int, in Hz

    Example
    -------
    >>> resample(torch.randn(44100, 2), 44100, 16000).shape
    torch.Size([16000, 2])
    """
    for rate in (orig_rate, new_rate):
        if rate != int(rate) or rate <= 0:
            raise ValueError(
                f"A sample rate must be a positive whole number of Hz, got "
                f"{rate}: check the file's header or the yaml's sample_rate."
            )
    if orig_rate == new_rate:
        return waveform
    if {orig_rate, new_rate} <= USUAL_RATES:
        return _resample_sinc(waveform, int(orig_rate), int(new_rate))
    samples = waveform.numpy(force=True)
    resampled = soxr.resample(samples, orig_rate, new_rate, quality="VHQ")
    return torch.from_numpy(resampled).to(waveform)


def _resample_sinc(waveform: Tensor, orig_rate: int, new_rate: int) -> Tensor:
    """Apply the cached filter matrix to overlapping frames of the waveform."""
    kernel, hop, width = _sinc_kernel(orig_rate, new_rate)
    num_samples, channels = waveform.shape
    new_samples = math.ceil(num_samples * new_rate / orig_rate)
    phases, frame = kernel.shape
    num_frames = math.ceil(new_samples / phases)
    right = (num_frames - 1) * hop + frame - width - num_samples
    padded = torch.nn.functional.pad(waveform.T, (width, max(right, 0)))
    frames = padded.unfold(-1, frame, hop)[:, :num_frames]  # [C, F, frame]
    resampled = frames @ kernel.T.to(waveform)  # [C, F, phases]
    return resampled.reshape(channels, -1)[:, :new_samples].T.contiguous()


@functools.cache
def _sinc_kernel(orig_rate: int, new_rate: int) -> tuple[Tensor, int, int]:
    """Design the filter in float64: ([phases, taps] matrix, hop, width)."""
    common = math.gcd(orig_rate, new_rate)
    hop, phases = orig_rate // common, new_rate // common
    repeat = math.ceil(MIN_PHASES / phases)
    hop, phases = hop * repeat, phases * repeat
    cutoff = min(hop, phases) * ROLLOFF
    width = math.ceil(FILTER_WIDTH * hop / cutoff)
    taps = torch.arange(-width, width + hop, dtype=torch.float64) / hop
    phase = torch.arange(phases, dtype=torch.float64) / phases
    time = (taps[None, :] - phase[:, None]) * cutoff
    time = time.clamp(-FILTER_WIDTH, FILTER_WIDTH)
    beta = torch.tensor(KAISER_BETA, dtype=torch.float64)
    inside = (1 - (time / FILTER_WIDTH) ** 2).clamp(min=0).sqrt()
    window = torch.special.i0(beta * inside) / torch.special.i0(beta)
    kernel = torch.sinc(time) * window * cutoff / hop
    return kernel.float(), hop, width


def rms_normalize(waveform: Tensor, level_db: float = -14.0) -> Tensor:
    """Bring a clip to a root-mean-square level with one gain for all channels.

    Arguments
    ---------
    waveform : [T, C], without padding; a silent one stays silent
    level_db : float, relative to full scale

    Example
    -------
    >>> clip = rms_normalize(torch.randn(1600, 1), level_db=-20.0)
    >>> round(20 * clip.square().mean().sqrt().log10().item(), 2)
    -20.0
    """
    return waveform * level_gain(waveform.square().mean().sqrt(), level_db)


def level_gain(rms: Tensor, level_db: float = -14.0) -> Tensor:
    """Compute the gain from an RMS value to a level in dB; 1 for silence."""
    return torch.where(rms > 0, 10 ** (level_db / 20) / rms, 1.0)


def select_channels(
    waveform: Tensor, channels: int, policy: str = "first"
) -> Tensor:
    """Give a waveform the model's channels; a mono one is duplicated.

    Arguments
    ---------
    waveform : [T, C]
    channels : int
        The model's; a ValueError if there are others and several.
    policy : str
        How several become one: "first" (the paper's choice) or "mean".

    Example
    -------
    >>> select_channels(torch.randn(100, 4), channels=1).shape
    torch.Size([100, 1])
    """
    if policy not in ("first", "mean"):
        raise ValueError(
            f"channel_policy must be 'first' or 'mean', got {policy!r}."
        )
    found = waveform.shape[1]
    if found in (1, channels):
        return waveform.expand(-1, channels)
    if channels == 1:
        first = policy == "first"
        return waveform[:, :1] if first else waveform.mean(dim=1, keepdim=True)
    raise ValueError(
        f"A model with {channels} channels cannot take a waveform with "
        f"{found}: give it {channels} channels, or one to duplicate."
    )


def standardize(waveform: Tensor, lengths: Optional[Tensor] = None) -> Tensor:
    """Give each window zero mean and unit (unbiased) std.

    Over time and channels together, so that level differences between the
    ears survive, and in float32 at least.

    Arguments
    ---------
    waveform : [B, T, C]
    lengths : [B], optional
        Valid samples; what lies behind does not count and becomes zero.

    Example
    -------
    >>> window = standardize(3 + 5 * torch.randn(2, 32160, 1))
    >>> bool(window.mean().abs() < 1e-5)
    True
    """
    waveform = waveform.to(torch.promote_types(waveform.dtype, torch.float32))
    if lengths is None:
        mean = waveform.mean(dim=(1, 2), keepdim=True)
        std = waveform.std(dim=(1, 2), keepdim=True)
        return (waveform - mean) / (std + EPS)
    num_samples, channels = waveform.shape[1:]
    position = torch.arange(num_samples, device=waveform.device)
    valid = position[None, :, None] < lengths[:, None, None]  # [B, T, 1]
    count = lengths[:, None, None] * channels
    waveform = waveform * valid
    mean = waveform.sum(dim=(1, 2), keepdim=True) / count
    centred = (waveform - mean) * valid
    variance = centred.square().sum(dim=(1, 2), keepdim=True)
    variance = variance / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + EPS)


def valid_lengths(waveform: Tensor, wav_lens: Lengths = None) -> list[int]:
    """Turn lengths [B] relative to T into samples of clips [B, T, ...]."""
    if wav_lens is None:
        return [waveform.shape[1]] * len(waveform)
    relative = wav_lens.detach().cpu().double()
    within = (relative > 0) & (relative <= 1)
    if relative.shape != (len(waveform),) or not bool(within.all()):
        raise ValueError(
            f"wav_lens are relative to the longest of {len(waveform)} clips, "
            f"above 0 and up to 1, got {relative.tolist()}."
        )
    samples = (relative * waveform.shape[1]).round().long().clamp(min=1)
    return samples.tolist()
