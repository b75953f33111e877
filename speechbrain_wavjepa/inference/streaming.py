"""Embeddings of sound that does not fit into memory or has not ended yet.

Shapes: T samples, C channels, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from speechbrain_wavjepa.dataio.clips import read_blocks
from speechbrain_wavjepa.inference.encoder import TokenEncoder
from speechbrain_wavjepa.processing.audio import level_gain
from speechbrain_wavjepa.processing.windows import TokenMerger, Window


class Measurement(NamedTuple):
    """What a first reading tells of a file, in the model's channels."""

    rms: Tensor
    num_samples: int  # at the model's rate


def measure_file(encoder: TokenEncoder, path: Union[str, Path]) -> Measurement:
    """Measure level and length of a file; a ValueError if it is unreadable."""
    power, num_samples = 0.0, 0
    for block in _read_prepared(encoder, path):
        power += block.double().square().mean(dim=1).sum()
        num_samples += len(block)
    return Measurement((power / num_samples).sqrt(), num_samples)


def _read_prepared(
    encoder: TokenEncoder, path: Union[str, Path]
) -> Iterator[Tensor]:
    """Yield blocks [T, C] of a file with the model's rate and channels."""
    for block in read_blocks(path, encoder.sample_rate):
        yield encoder.compute_features(block[None])[0]


def embed_file(
    encoder: TokenEncoder,
    path: Union[str, Path],
    measured: Optional[Measurement] = None,
) -> Tensor:
    """Embed a file of any length to [D] in memory that does not grow with it.

    Arguments
    ---------
    encoder : TokenEncoder, from ``load_pretrained``
    path : str or Path
        The file; a ValueError if it is unreadable or has other channels.
    measured : Measurement, optional, from ``measure_file``

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> folder = getfixture("pretrained_folder")
    >>> embed_file(load_pretrained(folder), folder / "example.wav").shape
    torch.Size([16])
    """
    embedding, count = encoder.embedding_model, 0
    most = torch.full([embedding.dim], -torch.inf)
    total = torch.zeros(embedding.dim, dtype=torch.float64)
    for tokens, _ in stream_file(encoder, path, measured):
        most = torch.maximum(most, tokens.amax(dim=0))
        total += tokens.double().sum(dim=0)
        count += len(tokens)
    return most if embedding.pooling == "max" else (total / count).float()


@torch.no_grad()
def stream_file(
    encoder: TokenEncoder,
    path: Union[str, Path],
    measured: Optional[Measurement] = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the next tokens [N, D] of a file and the seconds [N] they lie at.

    It is read twice, because its level is only known at its end.
    """
    embedding = encoder.embedding_model
    rms, num_samples = measured or measure_file(encoder, path)
    gain = level_gain(rms, encoder.mean_var_norm.level_db).float()
    blocks = _read_prepared(encoder, path)
    held, first = torch.zeros(0, encoder.compute_features.channels), 0
    merger = TokenMerger(embedding.grid, num_samples)
    windows = embedding.grid.lay_windows(num_samples)
    while some := list(itertools.islice(windows, embedding.window_batch)):
        held, first = held[some[0].start - first :], some[0].start
        end = min(some[-1].start + some[-1].num_samples, num_samples)
        while first + len(held) < end:
            block = next(blocks, None)
            if block is None:
                raise ValueError(f"{path} became shorter while it was read.")
            held = torch.cat([held, block * gain])
        clips = [held[window.start - first :] for window in some]
        merged = map(merger.add, some, embedding.encode(clips, some))
        yield tuple(map(torch.cat, zip(*merged)))


class StreamingEmbedder:
    """Embeds sound while it arrives.

    When a hop of new samples is complete, the window that ends there is
    encoded, at its own level, and its new tokens come out.

    Arguments
    ---------
    encoder : TokenEncoder, from ``load_pretrained``
    hop_samples : int
        New samples between two windows, rounded to whole tokens, from a token
        to a window: shorter ones cost more and give tokens sooner.

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> encoder = load_pretrained(getfixture("pretrained_folder"))
    >>> live = StreamingEmbedder(encoder, hop_samples=8000)
    >>> [len(live.push(torch.randn(4000))[0]) for _ in range(6)]
    [0, 49, 0, 50, 0, 50]
    """

    def __init__(self, encoder: TokenEncoder, hop_samples: int = 3200):
        self.encoder = encoder
        self.grid = dataclasses.replace(
            encoder.embedding_model.grid, overlap_tokens=0, padded=False
        )
        stride, field = self.grid.stride, self.grid.receptive_field
        self.hop = round(hop_samples / stride) * stride
        if not 0 < self.hop <= self.grid.window_samples - field:
            raise ValueError(
                f"hop_samples must lie between {stride} and "
                f"{self.grid.window_samples - field}, got {hop_samples}."
            )
        self.reset()

    def reset(self) -> None:
        """Forget all samples and begin with another sound."""
        self._held = torch.zeros(0, self.encoder.compute_features.channels)
        self._first = 0  # place of what is held
        self._next_end = max(self.hop, self.grid.receptive_field)
        self._merger = TokenMerger(self.grid)

    def push(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Take samples [T] or [T, C]; give the new tokens [N, D], times [N].

        Any number of samples at the model's rate. Times are seconds from the
        beginning to the middle of each token.
        """
        block = self.encoder.compute_features(block[None])[0]
        self._held = torch.cat([self._held.to(block), block])
        merged = [self._nothing()]
        while self._first + len(self._held) >= self._next_end:
            merged.append(self._encode(self._next_end))
            self._next_end += self.hop
        return tuple(map(torch.cat, zip(*merged)))

    def finish(self) -> tuple[Tensor, Tensor]:
        """Give the tokens [N, D] and times [N] of the last hop, and reset."""
        end = self._first + len(self._held)
        is_new = self.grid.num_tokens(end) > self._merger.num_given
        merged = self._encode(end) if is_new else self._nothing()
        self.reset()
        return merged

    def _nothing(self) -> tuple[Tensor, Tensor]:
        """Give no token and no time."""
        dim = self.encoder.embedding_model.dim
        return self._held.new_zeros(0, dim), torch.zeros(0).double()

    @torch.no_grad()
    def _encode(self, end: int) -> tuple[Tensor, Tensor]:
        """Encode the window that ends there; give its new tokens."""
        grid = self.grid
        behind = max(end - grid.window_samples, 0)
        first_token = -(-behind // grid.stride)
        start = first_token * grid.stride
        self._held, self._first = self._held[start - self._first :], start
        sound = self.encoder.mean_var_norm(self._held[None, : end - start])[0]
        count = grid.num_tokens(end - start)
        window = Window(start, end - start, first_token, count)
        (tokens,) = self.encoder.embedding_model.encode([sound], [window])
        return self._merger.add(window, tokens)
