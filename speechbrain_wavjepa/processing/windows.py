"""Windows: the crops of clips that the model is trained and used on.

Training cuts windows at random. To embed a clip, all of its tokens lie on
one grid, a stride apart: a window begins where the tokens of the one before
end, and the last one reaches back, so that no window is padded.

Shapes: B clips, T samples, C channels, M tokens of a window, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterator
from dataclasses import dataclass
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

    Arguments
    ---------
    waveform : [B, T, C]
        Clips padded with zeros to a window or more. One that is shorter than
        a window gives all of it and zeros.
    window_samples, windows_per_clip : int
    lengths : [B], optional
        Valid samples of each clip (default: all of them).
    generator : torch.Generator, optional, on the CPU

    Returns
    -------
    windows : [B * windows_per_clip, window_samples, C], clip after clip
    window_lengths : [B * windows_per_clip], their valid samples

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
    starts = draw_starts(
        lengths.cpu(), window_samples, windows_per_clip, generator
    )
    device = waveform.device
    return cut_windows(
        waveform, lengths.to(device), starts.to(device), window_samples
    )


def draw_starts(
    lengths: Tensor,
    window_samples: int,
    windows_per_clip: int,
    generator: Optional[torch.Generator] = None,
) -> Tensor:
    """Draw where the windows [B, W] of clips of lengths [B] begin."""
    num_starts = (lengths - window_samples).clamp(min=0) + 1  # [B]
    shape = len(lengths), windows_per_clip
    draws = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (draws * num_starts[:, None]).long()


def cut_windows(
    waveform: Tensor, lengths: Tensor, starts: Tensor, window_samples: int
) -> tuple[Tensor, Tensor]:
    """Cut the windows that begin at starts [B, W] of clips [B, T, C].

    Gives windows [B * W, window_samples, C] and their valid samples.
    """
    clip = torch.arange(len(waveform), device=waveform.device)[:, None]
    views = waveform.unfold(1, window_samples, 1)  # [B, places, C, window]
    windows = views[clip, starts].flatten(0, 1).transpose(1, 2)
    window_lengths = lengths.clamp(max=window_samples)
    return windows, window_lengths.repeat_interleave(starts.shape[1])


class Window(NamedTuple):
    """A piece of a clip that is encoded at once: its samples, its tokens."""

    start: int
    num_samples: int
    first_token: int
    num_tokens: int  # fewer than it gives, if those behind are padding


@dataclass(frozen=True)
class TokenGrid:
    """Where the tokens of a clip of any length lie, and its windows.

    Arguments
    ---------
    stride, receptive_field : int
        Samples from a token to the next, and of a token.
    window_samples : int
        Samples of a window, with two tokens or more.
    overlap_tokens : int
        Tokens that neighbouring windows share; they are cross-faded.
    padded : bool
        Lay windows as the authors' runtime does: side by side, the last one
        reaching at least a sample behind the end of the clip.
    sample_rate : int, in Hz, for the times of tokens

    Example
    -------
    >>> grid = TokenGrid(160, 240, 32160)
    >>> [window.start for window in grid.lay_windows(80000)]
    [0, 32000, 47840]
    >>> grid.count_tokens(80000)
    499
    """

    stride: int
    receptive_field: int
    window_samples: int
    overlap_tokens: int = 0
    padded: bool = False
    sample_rate: int = 16000

    def __post_init__(self):
        if self.window_tokens < 2:
            holds = f"holds {self.window_tokens} tokens: make it longer."
            raise ValueError(f"window_samples={self.window_samples} {holds}")

    @property
    def window_tokens(self) -> int:
        """Tokens of a window."""
        return self.num_tokens(self.window_samples)

    def num_tokens(self, num_samples: int) -> int:
        """Count the tokens that end within that many samples."""
        return max((num_samples - self.receptive_field) // self.stride + 1, 0)

    def count_tokens(self, num_samples: int) -> int:
        """Count the tokens of a clip; one shorter than a token has one."""
        if not self.padded:
            behind = max(num_samples - self.window_samples, 0)
            within = self.num_tokens(num_samples - behind)
            return behind // self.stride + max(within, 1)
        num_windows = num_samples // self.window_samples + 1
        padding = num_windows * self.window_samples - num_samples
        count = self.window_tokens * num_windows - padding // self.stride
        if count < 1:
            raise ValueError(
                f"{num_samples} samples leave no token in the authors' way: "
                "pad the clip, or set padding_in_statistics to False."
            )
        return count

    def lay_windows(self, num_samples: int) -> Iterator[Window]:
        """Divide a clip into windows of equal length, in the order of time.

        The only window of a clip shorter than a token is longer than it.
        """
        count = self.count_tokens(num_samples)
        size, per_window = self.window_samples, self.window_tokens
        if self.padded:
            for number, first in enumerate(range(0, count, per_window)):
                taken = min(per_window, count - first)
                yield Window(number * size, size, first, taken)
            return
        size = min(size, max(num_samples, self.receptive_field))
        per_window = min(per_window, count)
        last, first = count - per_window, 0
        while first < last:
            yield Window(first * self.stride, size, first, per_window)
            first += per_window - self.overlap_tokens
        yield Window(last * self.stride, size, last, per_window)

    def times(self, tokens: range, num_samples: Optional[int] = None) -> Tensor:
        """Give the seconds, in float64, at which tokens lie: their middles.

        A clip shorter than a token counts with its own length, num_samples;
        the authors' runtime spreads all tokens evenly over the clip.
        """
        place = torch.arange(tokens.start, tokens.stop, dtype=torch.float64)
        if self.padded:
            samples = place * num_samples / self.count_tokens(num_samples)
        else:
            ends = [self.receptive_field, num_samples or self.receptive_field]
            samples = place * self.stride + min(ends) / 2
        return samples / self.sample_rate


class TokenMerger:
    """Takes the tokens of a clip's windows in order; gives each token once.

    Neighbours that overlap are cross-faded: what the next window shares is
    held back. A clip that has not ended has no num_samples, and no overlap.
    """

    def __init__(self, grid: TokenGrid, num_samples: Optional[int] = None):
        assert num_samples is not None or not grid.overlap_tokens
        self.grid, self.num_samples, self.num_given = grid, num_samples, 0
        overlap = grid.overlap_tokens
        self._fade = torch.arange(1, overlap + 1)[:, None] / (overlap + 1)
        self._held: Optional[Tensor] = None

    def add(self, window: Window, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Take a window's tokens [M, D]; give new ones [M', D], times [M']."""
        overlap = self.grid.overlap_tokens
        tokens = tokens[self.num_given - window.first_token :]
        if self._held is not None:
            fade = self._fade.to(tokens)
            faded = self._held * (1 - fade) + tokens[:overlap] * fade
            tokens = torch.cat([faded, tokens[overlap:]])
        end = self.num_given + len(tokens)
        if overlap and end < self.grid.count_tokens(self.num_samples):
            tokens, self._held = tokens.tensor_split([-overlap])
        places = range(self.num_given, self.num_given + len(tokens))
        self.num_given = places.stop
        return tokens, self.grid.times(places, self.num_samples)
