"""How a clip of any length is divided into windows and tokens.

All tokens of a clip lie on one grid, a stride apart: a window begins where
the tokens of the one before end. The last one reaches back, so that no window
is padded, and a clip shorter than a window is heard at its own length.

Shapes: M tokens of a window and channel.

Authors
 * The speechbrain_wavjepa developers 2026

Windows: the crops of clips that the model is trained and used on.

Shapes: B clips, W windows of a clip, T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

import torch
from torch import Tensor


def random_windows(
    waveform: Tensor,
    window_samples: int,
    windows_per_clip: int,
    lengths: Optional[Tensor] = None,
    generator: Optional[torch.Generator] = None,
) -> tuple[Tensor, Tensor]:
    """Cut windows at random starts out of each clip, never into its padding.

    A clip shorter than a window gives its whole length and the zeros behind.

    Arguments
    ---------
    waveform : [B, T, C]
        The clips, zero-padded to one length of at least a window.
    window_samples : int
        Samples of a window.
    windows_per_clip : int
        Windows cut out of every clip.
    lengths : [B], optional
        Valid samples of each clip (default: all of them).
    generator : torch.Generator, optional
        Source of randomness, on the CPU.

    Returns
    -------
    windows : [B * windows_per_clip, window_samples, C]
        The windows of the first clip, then those of the second, ...
    window_lengths : [B * windows_per_clip]
        Valid samples of each window.

    Raises
    ------
    ValueError
        If the clips are shorter than a window.

    Example
    -------
    >>> windows, lengths = random_windows(torch.randn(2, 160000, 1), 32160, 8)
    >>> windows.shape, lengths.unique()
    (torch.Size([16, 32160, 1]), tensor([32160]))
    """
    num_clips, num_samples, _ = waveform.shape
    if num_samples < window_samples:
        raise ValueError(
            f"A window of {window_samples} samples does not fit into clips "
            f"of {num_samples}: pad the clips or lower window_samples."
        )
    if lengths is None:
        lengths = torch.full((num_clips,), num_samples)
    lengths = lengths.cpu()
    num_starts = (lengths - window_samples).clamp(min=0) + 1  # [B]
    draws = torch.rand(
        num_clips, windows_per_clip, generator=generator, dtype=torch.float64
    )
    starts = (draws * num_starts[:, None]).long().to(waveform.device)
    clip = torch.arange(num_clips, device=waveform.device)[:, None]
    views = waveform.unfold(1, window_samples, 1)  # [B, starts, C, window]
    windows = views[clip, starts].flatten(0, 1).transpose(1, 2)
    window_lengths = lengths.clamp(max=window_samples)
    window_lengths = window_lengths.repeat_interleave(windows_per_clip)
    return windows, window_lengths.to(waveform.device)


class Window(NamedTuple):
    """A piece of a clip that is encoded at once.

    Arguments
    ---------
    start : int
        Its first sample.
    num_samples : int
        Its samples.
    first_token : int
        Place of its first token in the clip.
    token_weights : [M]
        How much of each of its tokens is taken; tokens behind are left out.

    Example
    -------
    >>> Window(0, 32160, 0, torch.ones(200)).start
    0
    """

    start: int
    num_samples: int
    first_token: int
    token_weights: Tensor

    @property
    def end_token(self) -> int:
        """Place behind its last token in the clip."""
        return self.first_token + len(self.token_weights)


class TokenGrid(NamedTuple):
    """How a front-end lays tokens, and the windows that it is used with.

    Arguments
    ---------
    stride : int
        Samples from a token to the next.
    receptive_field : int
        Samples that a token hears.
    window_samples : int
        Samples of a window.
    window_tokens : int
        Tokens of a window.

    Example
    -------
    >>> def num_tokens(num_samples):
    ...     return max((num_samples - 80) // 160, 0)
    >>> TokenGrid.of(num_tokens, 32160)
    TokenGrid(stride=160, receptive_field=240, window_samples=32160,
    window_tokens=200)
    """

    stride: int
    receptive_field: int
    window_samples: int
    window_tokens: int

    @classmethod
    def of(
        cls, num_tokens: Callable[[int], int], window_samples: int
    ) -> "TokenGrid":
        """Find the grid of a front-end.

        Raises
        ------
        ValueError
            If a window holds less than two tokens.
        """
        window_tokens = num_tokens(window_samples)
        if window_tokens < 2:
            raise ValueError(
                f"window_samples={window_samples} holds {window_tokens} "
                "tokens: make it longer."
            )
        receptive_field = _least_samples(num_tokens, 1)
        stride = _least_samples(num_tokens, 2) - receptive_field
        return cls(stride, receptive_field, window_samples, window_tokens)

    def lay_windows(
        self, num_samples: int, overlap_tokens: int = 0
    ) -> Iterator[Window]:
        """Divide a clip into windows of equal length.

        Arguments
        ---------
        num_samples : int
            Samples of the clip.
        overlap_tokens : int
            Tokens that neighbours share and that are cross-faded.

        Yields
        ------
        Window
            In the order of time. The first is longer than the clip if the
            clip is shorter than a token.
        """
        size, per_window = self.window_samples, self.window_tokens
        if num_samples < size:
            held = max(num_samples, self.receptive_field)
            count = (held - self.receptive_field) // self.stride + 1
            yield Window(0, held, 0, torch.ones(count))
            return
        last = (num_samples - size) // self.stride
        fade = torch.arange(1, overlap_tokens + 1) / (overlap_tokens + 1)
        wanted = 0  # the first token that is not there yet, less the overlap
        while True:
            first = min(wanted, last)
            skipped = wanted - first
            weights = torch.ones(per_window)
            weights[:skipped] = 0
            if wanted:
                weights[skipped : skipped + len(fade)] = fade
            if first < last:
                weights[per_window - len(fade) :] *= 1 - fade
            yield Window(first * self.stride, size, first, weights)
            if first == last:
                return
            wanted += per_window - overlap_tokens

    def lay_padded_windows(self, num_samples: int) -> Iterator[Window]:
        """Divide a clip as the authors' runtime does.

        Windows lie side by side and the last one reaches behind the end, at
        least by a sample; tokens there are left out.

        Raises
        ------
        ValueError
            If no token is left.
        """
        size, per_window = self.window_samples, self.window_tokens
        num_windows = num_samples // size + 1
        padding = num_windows * size - num_samples
        total = per_window * num_windows - padding // self.stride
        if total < 1:
            raise ValueError(
                f"{num_samples} samples leave no token in the authors' way: "
                "pad the clip, or set padding_in_statistics to False."
            )
        for number, first in enumerate(range(0, total, per_window)):
            count = min(per_window, total - first)
            yield Window(number * size, size, first, torch.ones(count))


def _least_samples(num_tokens: Callable[[int], int], wanted: int) -> int:
    """Find the least number of samples that gives that many tokens."""
    high = 1
    while num_tokens(high) < wanted:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if num_tokens(middle) < wanted else (low, middle)
        )
    return high
