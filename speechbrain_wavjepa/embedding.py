"""Embeddings: one vector for a clip, from the context encoder.

Source: WavJEPA (https://arxiv.org/abs/2509.23238), section 3.

Shapes: B clips, T samples, C channels, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
from torch import Tensor

from speechbrain_wavjepa.audio import standardize
from speechbrain_wavjepa.windows import cover_windows


@torch.no_grad()
def embed_clips(model, waveform: Tensor, window_samples: int = 32160) -> Tensor:
    """Embed clips of one length: windows, all tokens, their mean.

    Arguments
    ---------
    model : speechbrain_wavjepa.wavjepa.WavJEPA
        The model.
    waveform : [B, T, C]
        Clips at the model's rate, with the model's channels.
    window_samples : int
        Samples of a window, as in pretraining.

    Returns
    -------
    [B, D]
        The mean over all tokens of all windows of each clip.

    Example
    -------
    >>> from speechbrain_wavjepa.frontends import ConvFrontend
    >>> from speechbrain_wavjepa.predictor import Predictor
    >>> from speechbrain_wavjepa.targets import TargetEncoder
    >>> from speechbrain_wavjepa.transformer import TransformerEncoder
    >>> from speechbrain_wavjepa.wavjepa import WavJEPA
    >>> encoder = TransformerEncoder(dim=16, depth=1, num_heads=2)
    >>> model = WavJEPA(
    ...     frontend=ConvFrontend(dim=8, layers=[[8, 160, 160]]),
    ...     context_encoder=encoder,
    ...     target_encoder=TargetEncoder(encoder, top_k_layers=1),
    ...     predictor=Predictor(encoder_dim=16, dim=8, depth=1, num_heads=2),
    ... )
    >>> embed_clips(model, torch.randn(3, 48000, 1)).shape
    torch.Size([3, 16])
    """
    windows = cover_windows(waveform, window_samples)  # [B, W, T', C]
    tokens = model.encode(standardize(windows.flatten(0, 1)))
    tokens = tokens.unflatten(0, windows.shape[:2])  # [B, W, N, D]
    return tokens.flatten(1, 2).mean(dim=1)
