"""Embeddings of sound that does not fit into memory or has not ended yet.

Shapes: T samples, C channels, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from speechbrain_wavjepa.dataio.clips import read_blocks
from speechbrain_wavjepa.inference.encoder import TokenEncoder
from speechbrain_wavjepa.processing.audio import level_gain
from speechbrain_wavjepa.processing.windows import Window


class Measurement(NamedTuple):
    """What is known of a file when it has been read once.

    Arguments
    ---------
    rms : scalar
        Its level, of the model's channels.
    num_samples : int
        Its length at the model's rate.

    Example
    -------
    >>> Measurement(torch.tensor(0.0), 100).num_samples
    100
    """

    rms: Tensor
    num_samples: int


def measure_file(encoder: TokenEncoder, path: Union[str, Path]) -> Measurement:
    """Measure level and length of a file as a model hears it.

    Arguments
    ---------
    encoder : TokenEncoder
        From ``pretrained.load_pretrained``.
    path : str or Path
        The file.

    Returns
    -------
    Measurement
        Its level and length.

    Raises
    ------
    ValueError
        If the file cannot be read, or its channels do not fit.

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> folder = getfixture("pretrained_folder")
    >>> encoder = load_pretrained(folder)
    >>> measure_file(encoder, folder / "example.wav").num_samples
    32160
    """
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
    """Embed a file of any length in memory that does not grow with it.

    Arguments
    ---------
    encoder : TokenEncoder
        From ``pretrained.load_pretrained``.
    path : str or Path
        The file.
    measured : Measurement, optional
        From ``measure_file``, if it was read already.

    Returns
    -------
    [D]
        The file's embedding, as from ``encoder.embed`` on all of it.

    Raises
    ------
    ValueError
        If the file cannot be read, or its channels do not fit.

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> folder = getfixture("pretrained_folder")
    >>> embed_file(load_pretrained(folder), folder / "example.wav").shape
    torch.Size([16])
    """
    pooled, count = 0.0, 0
    for tokens, _ in stream_file(encoder, path, measured):
        if encoder.embedding_model.pooling == "max":
            most = tokens.amax(dim=0)
            pooled = torch.maximum(pooled, most) if count else most
        else:
            pooled = pooled + tokens.double().sum(dim=0)
        count += len(tokens)
    if encoder.embedding_model.pooling == "mean":
        pooled = pooled / count
    return pooled.float()


@torch.no_grad()
def stream_file(
    encoder: TokenEncoder,
    path: Union[str, Path],
    measured: Optional[Measurement] = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tokens of a file while it is read.

    The file is read twice, because its level is only known at its end.

    Arguments
    ---------
    encoder : TokenEncoder
        From ``pretrained.load_pretrained``.
    path : str or Path
        The file.
    measured : Measurement, optional
        From ``measure_file``, if it was read already.

    Yields
    ------
    tokens : [N, D]
        The next tokens, on the CPU.
    times : [N]
        Their times in seconds.

    Raises
    ------
    ValueError
        If the file cannot be read, its channels do not fit, or its tokens
        are not finite.

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> folder = getfixture("pretrained_folder")
    >>> pieces = stream_file(load_pretrained(folder), folder / "example.wav")
    >>> torch.cat([tokens for tokens, _ in pieces]).shape
    torch.Size([200, 16])
    """
    embedding = encoder.embedding_model

    if measured is None:
        measured = measure_file(encoder, path)
    rms, num_samples = measured
    gain = level_gain(rms, encoder.mean_var_norm.level_db).float()
    layout = embedding.lay_windows(num_samples)
    times = embedding.times(layout[-1].end_token, num_samples)
    blocks = _read_prepared(encoder, path)
    held, first = torch.zeros(0, encoder.compute_features.channels), 0
    waiting, emitted = torch.zeros(0, embedding.dim), 0
    for start in range(0, len(layout), embedding.window_batch):
        some = layout[start : start + embedding.window_batch]
        dropped = some[0].start - first
        held, first = held[dropped:], some[0].start
        needed = min(some[-1].start + some[-1].num_samples, num_samples) - first
        while len(held) < needed:
            block = next(blocks, None)
            if block is None:
                raise ValueError(f"{path} became shorter while it was read.")
            held = torch.cat([held, block * gain])
        windows = [
            embedding.cut_window(
                held, window._replace(start=window.start - first)
            )
            for window in some
        ]
        taken = embedding.encode(
            torch.stack(windows).to(_device(encoder)), some
        )
        missing = some[-1].end_token - emitted - len(waiting)
        waiting = torch.nn.functional.pad(waiting, (0, 0, 0, missing))
        for window, tokens in zip(some, taken):
            # what a last window hears again lies before and weighs nothing
            again = max(emitted - window.first_token, 0)
            place = window.first_token + again - emitted
            waiting[place : place + len(tokens) - again] += tokens[again:].cpu()
        ready = len(waiting)
        if some[-1] is not layout[-1]:
            ready -= embedding.overlap_tokens
        yield waiting[:ready], times[emitted : emitted + ready]
        waiting, emitted = waiting[ready:], emitted + ready


def _device(encoder: TokenEncoder) -> torch.device:
    """Tell where the model is."""
    return next(encoder.embedding_model.model.parameters()).device


class StreamingEmbedder:
    """Embeds sound while it arrives.

    Whenever a hop of new samples is complete, the window that ends there is
    encoded, and its new tokens come out. A window has the level of its own
    sound, because the rest is not known yet.

    Arguments
    ---------
    encoder : TokenEncoder
        From ``pretrained.load_pretrained``.
    hop_samples : int
        New samples between two windows at the model's rate, rounded to whole
        tokens: shorter ones cost more and give tokens sooner.

    Raises
    ------
    ValueError
        If a hop is not at least a token and at most a window.

    Example
    -------
    >>> from speechbrain_wavjepa.inference import load_pretrained
    >>> encoder = load_pretrained(getfixture("pretrained_folder"))
    >>> live = StreamingEmbedder(encoder, hop_samples=8000)
    >>> [len(live.push(torch.randn(4000))[0]) for _ in range(6)]
    [0, 49, 0, 50, 0, 50]
    """

    def __init__(self, encoder: TokenEncoder, hop_samples: int = 3200):
        grid = encoder.embedding_model.grid
        self.hop = round(hop_samples / grid.stride) * grid.stride
        if not 0 < self.hop <= grid.window_samples - grid.receptive_field:
            raise ValueError(
                f"hop_samples must lie between {grid.stride} and "
                f"{grid.window_samples - grid.receptive_field}, got "
                f"{hop_samples}."
            )
        self.encoder = encoder
        self.grid = grid
        self.reset()

    def reset(self) -> None:
        """Forget what was heard and begin with another sound."""
        self._held: Optional[Tensor] = None
        self._first = 0  # place of what is held
        self._next_end = max(self.hop, self.grid.receptive_field)
        self._emitted = 0

    def push(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Take new samples.

        Arguments
        ---------
        block : [T] or [T, C]
            Any number of them, at the model's rate.

        Returns
        -------
        tokens : [N, D]
            The tokens that are new; none until a hop is complete.
        times : [N]
            Seconds from the beginning to the middle of each.

        Raises
        ------
        ValueError
            If the channels do not fit or samples are not finite.
        """
        block = self.encoder.compute_features(block[None])[0]
        held = block if self._held is None else torch.cat([self._held, block])
        self._held = held
        tokens = [held.new_zeros(0, self.encoder.embedding_model.dim)]
        before = self._emitted
        while self._first + len(self._held) >= self._next_end:
            tokens.append(self._encode(self._next_end))
            self._next_end += self.hop
        return torch.cat(tokens), self._times(before)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Give the tokens of the last, incomplete hop, and reset.

        Returns
        -------
        tokens : [N, D]
            What is left; maybe none.
        times : [N]
            Seconds from the beginning to the middle of each.
        """
        tokens = torch.zeros(0, self.encoder.embedding_model.dim)
        before = self._emitted
        next_token_end = before * self.grid.stride + self.grid.receptive_field
        if self._held is not None:
            end = self._first + len(self._held)
            if end >= next_token_end:
                tokens = self._encode(end)
        times = self._times(before)
        self.reset()
        return tokens, times

    @torch.no_grad()
    def _encode(self, end: int) -> Tensor:
        """Encode the window that ends there; give its new tokens."""
        grid, embedding = self.grid, self.encoder.embedding_model
        behind = max(end - grid.window_samples, 0)
        first_token = -(-behind // grid.stride)
        start = first_token * grid.stride
        self._held = self._held[start - self._first :]
        self._first = start
        heard = self.encoder.mean_var_norm(self._held[None, : end - start])[0]
        count = (end - start - grid.receptive_field) // grid.stride + 1
        window = Window(0, end - start, first_token, torch.ones(count))
        cut = embedding.cut_window(heard, window).to(_device(self.encoder))
        tokens = embedding.encode(cut[None], [window])[0].to(heard.device)
        new = self._emitted - first_token
        self._emitted = first_token + count
        return tokens[new:]

    def _times(self, before: int) -> Tensor:
        """Give the times of the tokens since then."""
        places = torch.arange(before, self._emitted).double()
        samples = places * self.grid.stride + self.grid.receptive_field / 2
        return samples / self.encoder.sample_rate
