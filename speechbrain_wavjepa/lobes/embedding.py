"""Embeddings of clips of any length, from the context encoder.

Source: WavJEPA (https://arxiv.org/abs/2509.23238), section 3.

Shapes: B clips, T samples, C channels, N tokens of a clip, W windows, M
tokens of a window and channel, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
from typing import Optional

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.processing.audio import standardize, valid_lengths
from speechbrain_wavjepa.processing.windows import TokenGrid, Window
from speechbrain_wavjepa.utils.strict_module import StrictModule


class WavJEPAEmbedding(StrictModule):
    """Clips to one vector each, or to one vector a token.

    Nothing but its own samples enters a clip's embedding: neither padding
    nor the clips beside it.

    Arguments
    ---------
    model : speechbrain_wavjepa.lobes.wavjepa.WavJEPAEncoder
        The pretrained model.
    window_samples : int
        Samples of a window, as in pretraining.
    padding_in_statistics : bool
        True with window_samples 32159 is what the authors' runtime does, to
        replicate published figures: the last window is padded with zeros,
        which enter its mean and deviation.
    pooling : str
        "mean" or "max" over the tokens of a clip.
    window_batch : int
        Windows that are encoded at once: bounds the memory.
    overlap : float
        Part of a window that the next one hears again, up to 0.5; tokens are
        cross-faded there.
    layer_sum : speechbrain_wavjepa.nnet.transformer.LayerSum, optional
        Learns how to sum all layers (default: the last one is taken).
    freeze : bool
        False lets gradients into the model, for fine-tuning.
    precision : str
        "fp32", or "bf16" for the faster half-precision format.
    sample_rate : int
        Rate in Hz, for the times of tokens.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> from speechbrain_wavjepa.lobes import WavJEPAEncoder
    >>> embedding = WavJEPAEmbedding(
    ...     WavJEPAEncoder(
    ...         ConvFrontend(8, [[8, 240, 160]]), TransformerEncoder(16, 2, 4)
    ...     )
    ... )
    >>> embedding(torch.randn(3, 80000, 1)).shape
    torch.Size([3, 1, 16])
    >>> tokens, times, num_tokens = embedding.tokens(torch.randn(1, 80000, 1))
    >>> tokens.shape, num_tokens
    (torch.Size([1, 499, 16]), tensor([499]))
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
                raise ValueError(
                    f"{name} must be one of {choices}, got {value!r}."
                )
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
        self.grid = TokenGrid.of(model.frontend.num_tokens, window_samples)
        self.model = model
        self.padding_in_statistics = padding_in_statistics
        self.pooling = pooling
        self.window_batch = window_batch
        self.overlap_tokens = round(overlap * self.grid.window_tokens)
        self.freeze = freeze
        self.precision = precision
        self.sample_rate = sample_rate
        self.dim = model.context_encoder.dim
        self.layer_sum = layer_sum
        if freeze:
            model.requires_grad_(False)

    def forward(
        self, waveform: Tensor, wav_lens: Optional[Tensor] = None
    ) -> Tensor:
        """Embed clips.

        Arguments
        ---------
        waveform : [B, T, C]
            Clips at the model's rate, with its channels.
        wav_lens : [B], optional
            Their lengths relative to T. What lies behind is not heard.

        Returns
        -------
        [B, 1, D]
            The tokens of each clip, pooled.
        """
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
        """Encode clips token by token; the tokens of two ears are averaged.

        Arguments
        ---------
        waveform : [B, T, C]
            Clips at the model's rate, with its channels.
        wav_lens : [B], optional
            Their lengths relative to T. What lies behind is not heard.

        Returns
        -------
        tokens : [B, N, D]
            The tokens, zeros behind the end of the shorter clips.
        times : [N]
            Seconds to the middle of what each token hears.
        num_tokens : [B]
            Tokens of each clip.
        """
        lengths = valid_lengths(waveform, wav_lens)
        layouts = [self.lay_windows(length) for length in lengths]
        counts = [layout[-1].end_token for layout in layouts]
        pieces = [
            (clip, window)
            for clip, layout in enumerate(layouts)
            for window in layout
        ]
        longest = max(counts)
        grid = waveform.new_zeros(len(waveform) * longest, self.dim)
        for some in self._batches(pieces):
            windows = torch.stack(
                [
                    self.cut_window(waveform[clip, : lengths[clip]], window)
                    for clip, window in some
                ]
            )
            rows = torch.cat(
                [
                    clip * longest
                    + torch.arange(window.first_token, window.end_token)
                    for clip, window in some
                ]
            )
            taken = self.encode(windows, [window for _, window in some])
            grid = grid.index_add(0, rows.to(grid.device), torch.cat(taken))
        times = self.times(longest, max(lengths)).to(grid.device)
        num_tokens = torch.tensor(counts, device=grid.device)
        return grid.unflatten(0, (-1, longest)), times, num_tokens

    def lay_windows(self, num_samples: int) -> list[Window]:
        """Divide a clip of that many samples into windows."""
        if self.padding_in_statistics:
            return list(self.grid.lay_padded_windows(num_samples))
        return list(self.grid.lay_windows(num_samples, self.overlap_tokens))

    def _batches(self, pieces):
        """Divide pieces into batches of windows of one length."""
        pieces = sorted(pieces, key=lambda piece: piece[1].num_samples)
        for _, equal in itertools.groupby(
            pieces, key=lambda piece: piece[1].num_samples
        ):
            while some := list(itertools.islice(equal, self.window_batch)):
                yield some

    def cut_window(self, clip: Tensor, window: Window) -> Tensor:
        """Cut a standardized window [T', C] out of a clip [T, C].

        There are zeros where the clip is too short.
        """
        cut = clip[window.start : window.start + window.num_samples]
        missing = window.num_samples - len(cut)
        padded = nn.functional.pad(cut, (0, 0, 0, missing))[None]
        if missing and not self.padding_in_statistics:
            lengths = torch.tensor([len(cut)], device=clip.device)
            return standardize(padded, lengths)[0]
        return standardize(padded)[0]

    def encode(self, windows: Tensor, layout: list[Window]) -> list[Tensor]:
        """Encode windows and weigh their tokens.

        Arguments
        ---------
        windows : [W, T, C]
            Windows of one length, from ``cut_window``.
        layout : list of Window
            What they are.

        Returns
        -------
        list of [M, D]
            The tokens that are taken of each window.

        Raises
        ------
        ValueError
            If tokens are not finite, unless the model is trained: then the
            loss tells.
        """
        channels = self.model.frontend.channels
        keep = None
        if self.padding_in_statistics:
            place = torch.arange(self.grid.window_tokens)
            kept = torch.tensor([len(w.token_weights) for w in layout])
            keep = (place < kept[:, None]).repeat(1, channels)
        learns = torch.is_grad_enabled() and not self.freeze
        autocast = torch.autocast(
            windows.device.type,
            torch.bfloat16,
            enabled=self.precision == "bf16",
        )
        with torch.set_grad_enabled(learns), autocast:
            if self.layer_sum is None:
                tokens = self.model.encode(windows, keep)
            else:
                outputs = list(self.model.encode_layers(windows))
        if self.layer_sum is not None:
            tokens = self.layer_sum(outputs)
        tokens = tokens.to(windows.dtype).unflatten(1, (channels, -1))
        taken = [
            of_window[: len(weights)] * weights[:, None]
            for of_window, weights in zip(
                tokens.mean(dim=1),
                (w.token_weights.to(tokens) for w in layout),
            )
        ]
        if not learns and not bool(torch.cat(taken).isfinite().all()):
            raise ValueError(
                "The model gives embeddings that are not finite: are its "
                "weights and precision right?"
            )
        return taken

    def times(self, num_tokens: int, num_samples: int) -> Tensor:
        """Give the time of each token of a clip in seconds, in float64."""
        place = torch.arange(num_tokens, dtype=torch.float64)
        if self.padding_in_statistics:
            samples = place * num_samples / num_tokens
        else:
            heard = min(self.grid.receptive_field, num_samples)
            samples = place * self.grid.stride + heard / 2
        return samples / self.sample_rate
