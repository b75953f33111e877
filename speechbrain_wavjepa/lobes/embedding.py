"""Embeddings of clips of any length, from the context encoder.

Source: WavJEPA (https://arxiv.org/abs/2509.23238), section 3.

Shapes: B clips, T samples, C channels, N tokens of a clip, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import collections
import contextlib
from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor, nn

from speechbrain_wavjepa.processing.audio import standardize, valid_lengths
from speechbrain_wavjepa.processing.windows import (
    TokenGrid,
    TokenMerger,
    Window,
)
from speechbrain_wavjepa.utils.strict_module import StrictModule


class WavJEPAEmbedding(StrictModule):
    """Clips to one vector each, or to one vector a token.

    Neither padding nor the clips beside it enter a clip's embedding.

    Arguments
    ---------
    model : WavJEPAEncoder
    window_samples : int, as in pretraining
    padding_in_statistics : bool
        True with window_samples 32159 replicates the authors' runtime: the
        zeros behind the last window enter its mean and std.
    pooling : str
        "mean" or "max" over the tokens of a clip.
    window_batch : int
        Windows that are encoded at once: bounds the memory.
    overlap : float
        Part of a window that is cross-faded with the next one, up to 0.5.
    layer_sum : LayerSum, optional
        Learns how to sum all layers (default: the last one is taken).
    freeze : bool
        False lets gradients into the model, for fine-tuning.
    precision : "bf16" for speed, or "fp32": what the caller's autocast says
    sample_rate : int, in Hz, for the times of tokens

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend, WavJEPAEncoder
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> frontend = ConvFrontend(8, [[8, 240, 160]])
    >>> model = WavJEPAEncoder(frontend, TransformerEncoder(16, 2, 4))
    >>> WavJEPAEmbedding(model)(torch.randn(3, 80000, 1)).shape
    torch.Size([3, 1, 16])
    """

    def __init__(
        self,
        model: nn.Module,
        window_samples: int = 32160,
        padding_in_statistics: bool = False,
        pooling: str = "mean",
        window_batch: int = 16,
        overlap: float = 0.0,
        layer_sum: Optional[nn.Module] = None,
        freeze: bool = True,
        precision: str = "fp32",
        sample_rate: int = 16000,
    ):
        super().__init__()
        for name, value, choices in (
            ("pooling", pooling, ("mean", "max")),
            ("precision", precision, ("fp32", "bf16")),
        ):
            if value not in choices:
                must = f"must be one of {choices}"
                raise ValueError(f"{name} {must}, got {value!r}.")
        if not 0 <= overlap <= 0.5 or window_batch < 1:
            raise ValueError(
                "overlap must lie between 0 and 0.5 and window_batch be 1 or "
                f"more, got {overlap} and {window_batch}."
            )
        if padding_in_statistics and (overlap or layer_sum):
            raise ValueError(
                "The authors' way (padding_in_statistics: True) knows neither "
                "overlap nor a sum of layers: leave them out."
            )
        self.grid = TokenGrid(
            model.frontend.stride,
            model.frontend.receptive_field,
            window_samples,
            round(overlap * model.frontend.num_tokens(window_samples)),
            padding_in_statistics,
            sample_rate,
        )
        self.model, self.layer_sum = model, layer_sum
        self.pooling, self.precision = pooling, precision
        self.window_batch, self.freeze = window_batch, freeze
        self.dim = model.context_encoder.dim
        if freeze:
            model.requires_grad_(False)

    def forward(
        self, waveform: Tensor, wav_lens: Optional[Tensor] = None
    ) -> Tensor:
        """Embed clips [B, T, C] of relative lengths [B]: [B, 1, D]."""
        tokens, _, num_tokens = self.tokens(waveform, wav_lens)
        place = torch.arange(tokens.shape[1], device=tokens.device)
        valid = (place < num_tokens[:, None])[:, :, None]
        if self.pooling == "max":
            pooled = tokens.masked_fill(~valid, -torch.inf).amax(dim=1)
        else:
            pooled = (tokens * valid).sum(dim=1) / num_tokens[:, None]
        return pooled[:, None]

    def tokens(
        self, waveform: Tensor, wav_lens: Optional[Tensor] = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode clips [B, T, C] of relative lengths [B], averaging ears.

        Returns tokens [B, N, D], zeros behind the end of the shorter clips,
        the seconds [N] at their middles and the tokens [B] of each clip.
        """
        lengths = valid_lengths(waveform, wav_lens)
        mergers = [TokenMerger(self.grid, length) for length in lengths]
        merged = [[] for _ in lengths]  # of each clip, (tokens, times)
        by_size = collections.defaultdict(list)
        for clip, length in enumerate(lengths):
            for window in self.grid.lay_windows(length):
                by_size[window.num_samples].append((clip, window))
        for equal in by_size.values():
            for first in range(0, len(equal), self.window_batch):
                some = equal[first : first + self.window_batch]
                encoded = self.encode(
                    [waveform[c, w.start : lengths[c]] for c, w in some],
                    [window for _, window in some],
                )
                for (clip, window), tokens in zip(some, encoded):
                    merged[clip].append(mergers[clip].add(window, tokens))
        tokens = [torch.cat([t for t, _ in pieces]) for pieces in merged]
        longest = merged[lengths.index(max(lengths))]
        return (
            nn.utils.rnn.pad_sequence(tokens, batch_first=True),
            torch.cat([times for _, times in longest]).to(waveform.device),
            torch.tensor([len(t) for t in tokens], device=waveform.device),
        )

    def encode(
        self, clips: Sequence[Tensor], windows: Sequence[Window]
    ) -> list[Tensor]:
        """Encode windows of one length; give the tokens [M, D] of each.

        Each clip [T, C] begins where its window does.
        """
        size = windows[0].num_samples
        # one by one: the std of a batch takes longer on a CPU
        cuts = [self._standardize(clip[:size], size) for clip in clips]
        waveform = torch.cat(cuts).to(next(self.model.parameters()).device)
        channels = self.model.frontend.channels
        keep = None
        if self.grid.padded:
            place = np.arange(self.grid.num_tokens(waveform.shape[1]))
            kept = np.array([window.num_tokens for window in windows])
            keep = np.tile(place < kept[:, None], channels)
        learns = torch.is_grad_enabled() and not self.freeze
        autocast = contextlib.nullcontext()  # the caller's, if it has one
        if self.precision == "bf16":
            autocast = torch.autocast(waveform.device.type, torch.bfloat16)
        with torch.set_grad_enabled(learns), autocast:
            if self.layer_sum is None:
                tokens = self.model.encode(waveform, keep)
            else:
                outputs = list(self.model.encode_layers(waveform))
        if self.layer_sum is not None:
            tokens = self.layer_sum(outputs)
        tokens = tokens.to(clips[0].device, waveform.dtype)
        tokens = tokens.unflatten(1, (channels, -1)).mean(dim=1)
        taken = [row[: w.num_tokens] for row, w in zip(tokens, windows)]
        # where the model learns the loss tells
        if not learns and not bool(torch.cat(taken).isfinite().all()):
            raise ValueError(
                "The model gives embeddings that are not finite: are its "
                "weights and precision right?"
            )
        return taken

    def _standardize(self, cut: Tensor, num_samples: int) -> Tensor:
        """Standardize a window, padded if it is too short: [1, T, C]."""
        missing = num_samples - len(cut)
        padded = nn.functional.pad(cut, (0, 0, 0, missing))[None]
        if not missing or self.grid.padded:
            return standardize(padded)
        return standardize(padded, torch.tensor([len(cut)], device=cut.device))
