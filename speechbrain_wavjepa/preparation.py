"""What clips pass before they are embedded: checks, rate, channels, level.

Shapes: B clips, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import Optional

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.processing.audio import (
    MAX_CHANNELS,
    MIN_RATE,
    apply_channel_policy,
    resample,
    rms_normalize,
    valid_lengths,
)


class FileNormalizer:
    """Brings what a file holds to the model's rate and keeps all channels.

    SpeechBrain's ``load_audio`` calls it under the name ``audio_normalizer``.
    The filter is that of pretraining.

    Arguments
    ---------
    sample_rate : int
        The model's rate in Hz.

    Example
    -------
    >>> FileNormalizer(16000)(torch.randn(44100, 2), 44100).shape
    torch.Size([16000, 2])
    """

    def __init__(self, sample_rate: int = 16000):
        self.sample_rate = sample_rate

    def __call__(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Resample [T] or [T, C] to [T', C].

        Raises
        ------
        ValueError
            If there is no sample, or the rate is not one of sound.
        """
        check_file(len(audio), sample_rate)
        if audio.ndim == 1:
            audio = audio[:, None]
        return resample(audio, sample_rate, self.sample_rate)


def check_file(num_samples: int, sample_rate: int) -> None:
    """Refuse files that cannot be heard.

    Arguments
    ---------
    num_samples : int
        Samples of the file.
    sample_rate : int
        Its rate in Hz.

    Raises
    ------
    ValueError
        If there is no sample, or the rate is not one of sound.

    Example
    -------
    >>> check_file(16000, 1)
    Traceback (most recent call last):
    ...
    ValueError: A sample rate of 1 Hz holds no sound, it must be 1000 Hz or
    more: is the file's header right?
    """
    if num_samples == 0:
        raise ValueError("There are 0 samples: is the file complete?")
    if sample_rate < MIN_RATE:
        raise ValueError(
            f"A sample rate of {sample_rate} Hz holds no sound, it must be "
            f"{MIN_RATE} Hz or more: is the file's header right?"
        )


class RawWaveform(nn.Module):
    """Gives clips the model's channels.

    Arguments
    ---------
    channels : int
        The model's channels: mono clips are duplicated for two.
    policy : str
        How several channels become one: "first" or "mean".

    Example
    -------
    >>> RawWaveform(channels=2)(torch.randn(3, 16000)).shape
    torch.Size([3, 16000, 2])
    """

    def __init__(self, channels: int = 1, policy: str = "first"):
        super().__init__()
        apply_channel_policy(torch.zeros(1, 1), channels, policy)
        self.channels = channels
        self.policy = policy

    def forward(self, wavs: Tensor) -> Tensor:
        """Turn clips [B, T] or [B, T, C] into [B, T, channels].

        Raises
        ------
        ValueError
            If a sample is not a finite number, there is none, or the
            channels do not fit.
        """
        if wavs.ndim not in (2, 3) or wavs.shape[1] == 0:
            raise ValueError(
                "Clips are [clips, samples] or [clips, samples, channels] "
                f"with a sample or more, got {list(wavs.shape)}."
            )
        if not bool(torch.isfinite(wavs).all()):
            raise ValueError(
                "The clips hold NaN or Inf: check the files, or the gain "
                "that was applied to them."
            )
        if wavs.ndim == 2:
            wavs = wavs[:, :, None]
        if wavs.shape[2] > MAX_CHANNELS:
            raise ValueError(
                f"Clips have up to {MAX_CHANNELS} channels, got "
                f"{wavs.shape[2]} in {list(wavs.shape)}: are the axes "
                "[clips, samples, channels]? Select the ears or one channel."
            )
        flat = apply_channel_policy(
            wavs.flatten(0, 1), self.channels, self.policy
        )
        return flat.unflatten(0, wavs.shape[:2])


class LevelNorm(nn.Module):
    """Brings clips to a root-mean-square level, all channels alike.

    Arguments
    ---------
    level_db : float
        Level in dB relative to full scale. Silence stays silence.

    Example
    -------
    >>> clip = LevelNorm(-20.0)(torch.randn(1, 16000, 1))
    >>> round(20 * clip.square().mean().sqrt().log10().item(), 2)
    -20.0
    """

    def __init__(self, level_db: float = -14.0):
        super().__init__()
        self.level_db = level_db

    def forward(
        self, waveform: Tensor, wav_lens: Optional[Tensor] = None
    ) -> Tensor:
        """Level clips [B, T, C] by what is not padding, which becomes zero."""
        levelled = torch.zeros_like(waveform)
        lengths = valid_lengths(waveform, wav_lens)
        for row, clip, length in zip(levelled, waveform, lengths):
            row[:length] = rms_normalize(clip[:length], self.level_db)
        return levelled
