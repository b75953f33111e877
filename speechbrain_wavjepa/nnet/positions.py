"""Fixed sine-cosine positions: over time, or over channel and time.

Source: "Attention Is All You Need" (https://arxiv.org/abs/1706.03762). Shapes:
C channels, N tokens of each.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
from typing import Optional

import torch
from torch import Tensor


def time_positions(num_tokens: int, dim: int) -> Tensor:
    """Make the table of positions in time, [N, dim]: sines, then cosines."""
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
    """Look up the positions [C*N, dim] of channel-major tokens.

    With several channels the first half of the columns is the time, the
    second the channel. Float32 values in any dtype, as the authors store them.
    """
    # a table made while a program is traced holds no numbers: not for the cache
    make = _make_table if torch.compiler.is_compiling() else _cached_table
    return make(num_tokens, dim, channels, device, dtype)


def _make_table(num_tokens, dim, channels, device, dtype) -> Tensor:
    """Compute the table in float64."""
    if channels == 1:
        return time_positions(num_tokens, dim).float().to(device, dtype)
    if dim % 4:
        raise ValueError(
            f"Positions of {channels} channels need a multiple of 4, got "
            f"dim={dim}."
        )
    time = time_positions(num_tokens, dim // 2).repeat(channels, 1)
    # zeros for the first channel, then the rows of a time table
    channel = torch.zeros(channels, dim // 2, dtype=torch.float64)
    channel[1:] = time_positions(channels - 1, dim // 2)
    channel = channel.repeat_interleave(num_tokens, dim=0)
    table = torch.cat((time, channel), dim=1)
    return table.float().to(device, dtype)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # a table made in inference may train later
def _cached_table(*arguments) -> Tensor:
    """Make a table once."""
    return _make_table(*arguments)
