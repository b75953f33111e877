"""What clips pass before they are embedded: checks, rate, channels, level.

Shapes: B clips, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026

The modules that a pretrained folder names to hold the others together.

SpeechBrain's WaveformEncoder wants one module from waveforms to tokens, its
EncoderClassifier a classifier of embeddings.

Shapes: B clips, T samples, C channels, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import Optional

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.processing.audio import (
    MAX_CHANNELS,
    MIN_RATE,
    resample,
    rms_normalize,
    select_channels,
    valid_lengths,
)
from speechbrain_wavjepa.utils.strict_module import StrictModule


class AudioNormalizer:
    """Brings what a file holds to the model's rate and keeps all channels.

    SpeechBrain's ``load_audio`` calls it under the name ``audio_normalizer``.
    The filter is that of pretraining.

    Arguments
    ---------
    sample_rate : int
        The model's rate in Hz.

    Example
    -------
    >>> AudioNormalizer(16000)(torch.randn(44100, 2), 44100).shape
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


class ChannelSelector(nn.Module):
    """Gives clips the model's channels.

    Arguments
    ---------
    channels : int
        The model's channels: mono clips are duplicated for two.
    policy : str
        How several channels become one: "first" or "mean".

    Example
    -------
    >>> ChannelSelector(channels=2)(torch.randn(3, 16000)).shape
    torch.Size([3, 16000, 2])
    """

    def __init__(self, channels: int = 1, policy: str = "first"):
        super().__init__()
        select_channels(torch.zeros(1, 1), channels, policy)
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
        flat = select_channels(wavs.flatten(0, 1), self.channels, self.policy)
        return flat.unflatten(0, wavs.shape[:2])


class RMSNormalizer(nn.Module):
    """Brings clips to a root-mean-square level, all channels alike.

    Arguments
    ---------
    level_db : float
        Level in dB relative to full scale. Silence stays silence.

    Example
    -------
    >>> clip = RMSNormalizer(-20.0)(torch.randn(1, 16000, 1))
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


class TokenEncoder(StrictModule):
    """Channels, level and embedding in one module, from waveforms to tokens.

    Arguments
    ---------
    compute_features : nn.Module
        speechbrain_wavjepa.inference.encoder.ChannelSelector.
    mean_var_norm : nn.Module
        speechbrain_wavjepa.inference.encoder.RMSNormalizer.
    embedding_model : nn.Module
        speechbrain_wavjepa.lobes.embedding.WavJEPAEmbedding.
    sample_rate : int
        The rate that it takes.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import WavJEPAEmbedding
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.inference import RMSNormalizer, ChannelSelector
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> from speechbrain_wavjepa.lobes import WavJEPAEncoder
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 240, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> encoder = TokenEncoder(
    ...     ChannelSelector(), RMSNormalizer(), WavJEPAEmbedding(model)
    ... )
    >>> encoder(torch.randn(3, 16000))["embeddings"].shape
    torch.Size([3, 99, 16])
    >>> encoder.embed(torch.randn(3, 16000)).shape
    torch.Size([3, 1, 16])
    """

    def __init__(
        self,
        compute_features: nn.Module,
        mean_var_norm: nn.Module,
        embedding_model: nn.Module,
        sample_rate: int = 16000,
    ):
        super().__init__()
        self.compute_features = compute_features
        self.mean_var_norm = mean_var_norm
        self.embedding_model = embedding_model
        self.sample_rate = sample_rate

    def forward(
        self, wavs: Tensor, wav_lens: Optional[Tensor] = None
    ) -> dict[str, Tensor]:
        """Compute the tokens of clips.

        Arguments
        ---------
        wavs : [B, T] or [B, T, C]
            Clips at the sample rate.
        wav_lens : [B], optional
            Their lengths relative to T.

        Returns
        -------
        dict[str, Tensor]
            "embeddings" [B, N, D], the name that WaveformEncoder asks for,
            "times" [N] and "num_tokens" [B].
        """
        waveform, wav_lens = self._prepare(wavs, wav_lens)
        tokens, times, num_tokens = self.embedding_model.tokens(
            waveform, wav_lens
        )
        return {"embeddings": tokens, "times": times, "num_tokens": num_tokens}

    def embed(self, wavs: Tensor, wav_lens: Optional[Tensor] = None) -> Tensor:
        """Compute the embeddings [B, 1, D] of clips [B, T] or [B, T, C]."""
        return self.embedding_model(*self._prepare(wavs, wav_lens))

    def _prepare(self, wavs: Tensor, wav_lens: Optional[Tensor]) -> tuple:
        """Give clips the model's channels and level."""
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs), device=wavs.device)
        waveform = self.mean_var_norm(self.compute_features(wavs), wav_lens)
        return waveform, wav_lens
