"""From a file's samples to tokens: rate, channels, level, embedding.

A pretrained folder names these classes in its hyperparams.yaml. SpeechBrain's
WaveformEncoder wants one module from waveforms to tokens, ``TokenEncoder``.

Shapes: B clips, T samples, C channels, N tokens of a clip, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.processing.audio import (
    MAX_CHANNELS,
    MIN_RATE,
    Lengths,
    resample,
    rms_normalize,
    select_channels,
    valid_lengths,
)
from speechbrain_wavjepa.utils.strict_module import StrictModule


class AudioNormalizer:
    """Resamples a file as in pretraining and keeps all channels.

    SpeechBrain's ``load_audio`` calls it under the name ``audio_normalizer``.

    Arguments
    ---------
    sample_rate : int, the model's in Hz

    Example
    -------
    >>> AudioNormalizer(16000)(torch.randn(44100, 2), 44100).shape
    torch.Size([16000, 2])
    """

    def __init__(self, sample_rate: int = 16000):
        self.sample_rate = sample_rate

    def __call__(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Resample [T] or [T, C] to [T', C]; refuse what is not audio."""
        if len(audio) == 0:
            raise ValueError("There are 0 samples: is the file complete?")
        if sample_rate < MIN_RATE:
            raise ValueError(
                f"The sample rate is {sample_rate} Hz, under {MIN_RATE} Hz: is "
                "the file's header right?"
            )
        audio = audio[:, None] if audio.ndim == 1 else audio
        return resample(audio, sample_rate, self.sample_rate)


class ChannelSelector(nn.Module):
    """Gives clips the model's channels.

    Arguments
    ---------
    channels : int
        The model's channels: mono clips are duplicated for two.
    policy : "first" or "mean", how several channels become one

    Example
    -------
    >>> ChannelSelector(channels=2)(torch.randn(3, 16000)).shape
    torch.Size([3, 16000, 2])
    """

    def __init__(self, channels: int = 1, policy: str = "first"):
        super().__init__()
        select_channels(torch.zeros(1, 1), channels, policy)  # or refuses them
        self.channels, self.policy = channels, policy

    def forward(self, wavs: Tensor) -> Tensor:
        """Turn finite clips [B, T] or [B, T, C] into [B, T, channels]."""
        shape = list(wavs.shape)
        if len(shape) not in (2, 3) or shape[1] == 0:
            raise ValueError(
                "Clips are [clips, samples(, channels)] with a sample or more, "
                f"got {shape}."
            )
        if not bool(torch.isfinite(wavs).all()):
            raise ValueError("The clips hold NaN or Inf: check files and gain.")
        wavs = wavs[:, :, None] if wavs.ndim == 2 else wavs
        if wavs.shape[2] > MAX_CHANNELS:
            raise ValueError(
                f"Clips are [clips, samples, channels] with {MAX_CHANNELS} "
                f"channels at most, got {shape}: are the axes right?"
            )
        flat = select_channels(wavs.flatten(0, 1), self.channels, self.policy)
        return flat.unflatten(0, wavs.shape[:2])


class RMSNormalizer(nn.Module):
    """Brings clips to a root-mean-square level, one gain for all channels.

    Arguments
    ---------
    level_db : float, relative to full scale; silence stays silence

    Example
    -------
    >>> clip = RMSNormalizer(-20.0)(torch.randn(1, 16000, 1))
    >>> round(20 * clip.square().mean().sqrt().log10().item(), 2)
    -20.0
    """

    def __init__(self, level_db: float = -14.0):
        super().__init__()
        self.level_db = level_db

    def forward(self, waveform: Tensor, wav_lens: Lengths = None) -> Tensor:
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
    compute_features, mean_var_norm, embedding_model : nn.Module
        A ChannelSelector, a RMSNormalizer and a WavJEPAEmbedding, under the
        names that SpeechBrain's EncoderClassifier asks for.
    sample_rate : int, in Hz

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> encoder = load_pretrained(getfixture("pretrained_folder"))
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
        self, wavs: Tensor, wav_lens: Lengths = None
    ) -> dict[str, Tensor]:
        """Encode clips [B, T] or [B, T, C] at the sample rate.

        Gives "embeddings" [B, N, D], as WaveformEncoder calls tokens, "times"
        [N] in seconds and "num_tokens" [B].
        """
        tokens = self.embedding_model.tokens(*self._prepare(wavs, wav_lens))
        return dict(zip(("embeddings", "times", "num_tokens"), tokens))

    def embed(self, wavs: Tensor, wav_lens: Lengths = None) -> Tensor:
        """Compute the embeddings [B, 1, D] of clips [B, T] or [B, T, C]."""
        return self.embedding_model(*self._prepare(wavs, wav_lens))

    def _prepare(self, wavs: Tensor, wav_lens: Lengths) -> tuple:
        """Give clips the model's channels and level; pass on the lengths."""
        return self.mean_var_norm(
            self.compute_features(wavs), wav_lens
        ), wav_lens
