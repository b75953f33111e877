"""Fixed sine-cosine positions: over time, or over channel and time.

Source: "Attention Is All You Need" (https://arxiv.org/abs/1706.03762), sines
in the first half and cosines in the second.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
from typing import Optional

import torch
from torch import Tensor


def time_positions(num_tokens: int, dim: int) -> Tensor:
    """Make the table of positions in time.

    Arguments
    ---------
    num_tokens : int
        N, the number of tokens.
    dim : int
        Size of a token, even.

    Returns
    -------
    [N, dim] float64
        Sine in the first half of the columns, cosine in the second, at
        frequencies 10000^(-k / (dim / 2)).

    Raises
    ------
    ValueError
        If dim is odd.

    Example
    -------
    >>> time_positions(3, 4)[0]
    tensor([0., 0., 1., 1.], dtype=torch.float64)
    """
    if dim % 2:
        raise ValueError(f"Positions need an even dim, got {dim}.")
    half = torch.arange(dim // 2, dtype=torch.float64) / (dim // 2)
    position = torch.arange(num_tokens, dtype=torch.float64)
    angle = position[:, None] * 10000.0 ** (-half)  # [N, dim / 2]
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def channel_time_positions(
    num_tokens: int,
    dim: int,
    channels: int = 1,
    device: Optional[torch.device] = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Make the table of positions of channel-major tokens.

    With one channel it is the table over time. With more, the first half of
    the columns tells the time and the second half the channel: zeros for the
    first channel, then the rows of a time table, one for each channel.

    Arguments
    ---------
    num_tokens : int
        N, tokens of one channel.
    dim : int
        Size of a token; with several channels a multiple of 4.
    channels : int
        C, the number of channels.
    device : torch.device, optional
        Where the table is needed; it is kept there for the next call.
    dtype : torch.dtype
        Its type. Values are rounded to float32 in any case, as the authors
        store them.

    Returns
    -------
    [C*N, dim]
        The table, computed in float64.

    Raises
    ------
    ValueError
        If dim cannot be split among sines, cosines and channels.

    Example
    -------
    >>> channel_time_positions(200, 24, channels=2).shape
    torch.Size([400, 24])
    """
    arguments = (num_tokens, dim, channels, device, dtype)
    # what is made while a program is traced is not a table of numbers
    if torch.compiler.is_compiling():
        return _make_table(*arguments)
    return _cached_table(*arguments)


def _make_table(
    num_tokens: int,
    dim: int,
    channels: int,
    device: Optional[torch.device],
    dtype: torch.dtype,
) -> Tensor:
    """Compute the table of ``channel_time_positions``."""
    if channels == 1:
        table = time_positions(num_tokens, dim)
        return table.float().to(device, dtype)
    if dim % 4:
        raise ValueError(
            f"Positions of {channels} channels need a dim that is a multiple "
            f"of 4, got {dim}."
        )
    time = time_positions(num_tokens, dim // 2).repeat(channels, 1)
    channel = torch.zeros(channels, dim // 2, dtype=torch.float64)
    channel[1:] = time_positions(channels - 1, dim // 2)
    channel = channel.repeat_interleave(num_tokens, dim=0)
    table = torch.cat((time, channel), dim=1)
    return table.float().to(device, dtype)


@functools.lru_cache(maxsize=32)
def _cached_table(*arguments) -> Tensor:
    """Keep tables; also what is first needed in inference may train later."""
    with torch.inference_mode(False):
        return _make_table(*arguments)
