"""The modules that a pretrained folder names to hold the others together.

SpeechBrain's WaveformEncoder wants one module from waveforms to tokens, its
EncoderClassifier a classifier of embeddings.

Shapes: B clips, T samples, C channels, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import Optional

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.utils.strict_module import StrictModule


class TokenEncoder(StrictModule):
    """Channels, level and embedding in one module, from waveforms to tokens.

    Arguments
    ---------
    compute_features : nn.Module
        speechbrain_wavjepa.preparation.RawWaveform.
    mean_var_norm : nn.Module
        speechbrain_wavjepa.preparation.LevelNorm.
    embedding_model : nn.Module
        speechbrain_wavjepa.lobes.embedding.WavJEPAEmbedding.
    sample_rate : int
        The rate that it takes.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import WavJEPAEmbedding
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.preparation import LevelNorm, RawWaveform
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> from speechbrain_wavjepa.lobes import WavJEPAEncoder
    >>> model = WavJEPAEncoder(
    ...     ConvFrontend(8, [[8, 240, 160]]), TransformerEncoder(16, 2, 4)
    ... )
    >>> encoder = TokenEncoder(
    ...     RawWaveform(), LevelNorm(), WavJEPAEmbedding(model)
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
