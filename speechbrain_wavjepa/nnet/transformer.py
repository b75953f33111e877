"""The blocks of a Vision Transformer (https://arxiv.org/abs/2010.11929).

Windows keep different numbers of tokens, so the tokens of a batch travel as
one flat matrix: linear layers and norms touch no padding, and only the
attention core, a few per cent of the work, sees the sequences side by side.

Shapes: S sequences of N tokens, of which M are kept, L of the longest
sequence; D dim, H heads, K layers.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from speechbrain_wavjepa.utils.strict_module import StrictModule


class Packing(NamedTuple):
    """The kept tokens of S sequences, in one flat matrix [M, D].

    Attention lays them out on a grid [S, L, D], a row for each sequence.
    ``Packing(S, L)`` stands for sequences that are kept whole.
    """

    num_sequences: int
    longest: int
    rows: Optional[Tensor] = None  # [M], of each token among the S * N
    places: Optional[Tensor] = None  # [M], of each token in its sequence
    lengths: Optional[Tensor] = None  # [S], tokens of each sequence
    # [S + 1], int32: where in the flat matrix each sequence begins, and M
    boundaries: Optional[Tensor] = None
    # None where all sequences keep L tokens: the flat matrix is the grid
    grid_rows: Optional[Tensor] = None  # [M], of each token in the grid
    key_mask: Optional[Tensor] = None  # [S, 1, 1, L], True at a token

    @classmethod
    def from_mask(cls, mask: Union[Tensor, np.ndarray]) -> "Packing":
        """Pack the True tokens of mask [S, N], on the CPU."""
        kept = np.asarray(mask)
        rows, lengths = np.flatnonzero(kept), kept.sum(axis=1)
        longest = int(lengths.max())
        boundaries = np.append(0, lengths.cumsum()).astype(np.int32)
        indices = [rows, rows % kept.shape[1], lengths, boundaries]
        if len(rows) < len(kept) * longest:
            grid = np.arange(longest) < lengths[:, None]  # [S, L]
            indices += [np.flatnonzero(grid), grid[:, None, None]]
        return cls(len(kept), longest, *map(torch.from_numpy, indices))

    def to(self, device: torch.device) -> "Packing":
        """Move it from the CPU; a GPU need not wait for it."""
        if device.type == "cuda":
            self = map_tensors(Tensor.pin_memory, self)
        return map_tensors(lambda i: i.to(device, non_blocking=True), self)

    def to_grid(self, tokens: Tensor) -> Tensor:
        """Lay flat tokens [M, D] out as [S, L, D], zeros in the gaps."""
        shape = self.num_sequences, self.longest, tokens.shape[1]
        if self.grid_rows is not None:
            grid = tokens.new_zeros(shape).flatten(0, 1)
            tokens = grid.index_copy(0, self.grid_rows, tokens)
        return tokens.view(shape)

    def to_flat(self, grid: Tensor) -> Tensor:
        """Take the tokens [M, D] out of a grid [S, L, D]."""
        tokens, rows = grid.flatten(0, 1), self.grid_rows
        return tokens if rows is None else tokens.index_select(0, rows)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to all tensors in nested lists and named tuples."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, list):
        return [map_tensors(function, part) for part in value]
    if isinstance(value, tuple):
        return type(value)(*(map_tensors(function, part) for part in value))
    return value


def find_true(mask: Tensor) -> Tensor:
    """Find the True elements of a mask on the CPU, in its flat order."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # 8x faster


class Attention(nn.Module):
    """Multi-head self-attention within each sequence of a packing."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"dim={dim} is not a multiple of num_heads={num_heads}."
            )
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)

    def forward(self, tokens, packing, output_rows=None) -> Tensor:
        """Attend within sequences: [M, D] -> [M, D], or only output_rows."""
        grid = packing.to_grid(self.query_key_value(tokens))  # [S, L, 3D]
        query, key, value = (
            grid.unflatten(-1, (3, self.num_heads, -1))  # [S, L, 3, H, D/H]
            .permute(2, 0, 3, 1, 4)  # [3, S, H, L, D/H]
            .unbind(0)
        )
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=packing.key_mask
        )
        attended = packing.to_flat(attended.transpose(1, 2).flatten(2))
        if output_rows is not None:
            attended = attended.index_select(0, output_rows)
        return self.projection(attended)


class Block(nn.Module):
    """Attention and feed-forward network, with residuals and norms."""

    def __init__(self, dim, num_heads, mlp_ratio=4.0, norm_first=False):
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(dim, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, int(dim * mlp_ratio)),
            nn.GELU(),
            nn.Linear(int(dim * mlp_ratio), dim),
        )
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, tokens, packing, output_rows=None) -> Tensor:
        """Transform tokens [M, D]; behind the attention only output_rows."""
        normed = self.norm1(tokens) if self.norm_first else tokens
        attended = self.attention(normed, packing, output_rows)
        if output_rows is not None:
            tokens = tokens.index_select(0, output_rows)
        tokens = tokens + attended
        if self.norm_first:
            return tokens + self.mlp(self.norm2(tokens))
        tokens = self.norm1(tokens)
        return self.norm2(tokens + self.mlp(tokens))


class TransformerEncoder(nn.Module):
    """A stack of blocks and a final LayerNorm.

    Arguments
    ---------
    dim : int
        Size of a token.
    depth : int
        Number of blocks.
    num_heads : int
        Attention heads of each block.
    mlp_ratio : float
        Width of the feed-forward networks over dim.
    norm_first : bool
        Pre-norm blocks instead of WavJEPA's post-norm ones.

    Raises
    ------
    ValueError
        If dim is not a multiple of num_heads.

    Example
    -------
    >>> encoder = TransformerEncoder(dim=8, depth=2, num_heads=2)
    >>> encoder(torch.randn(3, 200, 8)).shape
    torch.Size([3, 200, 8])
    """

    def __init__(
        self,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        norm_first: bool = False,
    ):
        super().__init__()
        self.dim = dim
        self.depth = depth
        # each is initialised by itself; the authors' start with equal attention
        self.layers = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, norm_first) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.apply(initialize_linear)

    def forward(
        self,
        tokens: Tensor,
        packing: Optional[Packing] = None,
        output_rows: Optional[Tensor] = None,
    ) -> Tensor:
        """Encode tokens [S, L, D], or packed ones [M, D].

        With ``output_rows`` [R] only these packed tokens come out, [R, D]:
        behind the last attention the others are not computed.
        """
        shape = tokens.shape
        if packing is None:
            packing = Packing(shape[0], shape[1])
            tokens = tokens.flatten(0, 1)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, packing)
        tokens = self.norm(self.layers[-1](tokens, packing, output_rows))
        return tokens if output_rows is not None else tokens.view(shape)

    def layer_outputs(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the output [S, L, D] of each layer, before the final norm."""
        packing = Packing(tokens.shape[0], tokens.shape[1])
        flat = tokens.flatten(0, 1)
        for layer in self.layers:
            flat = layer(flat, packing)
            yield flat.view(tokens.shape)


def initialize_linear(module: nn.Module):
    """Draw an nn.Linear's weight from a normal of std 0.02; bias zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class LayerSum(StrictModule):
    """A learned weighted sum of all layers' normalised outputs, first a mean.

    Arguments
    ---------
    num_layers : int
        Layers of the encoder.

    Example
    -------
    >>> layer_sum = LayerSum(2)
    >>> layer_sum([torch.randn(3, 200, 16), torch.randn(3, 200, 16)]).shape
    torch.Size([3, 200, 16])
    """

    def __init__(self, num_layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_layers))  # [K], logits

    def forward(self, outputs: Iterable[Tensor]) -> Tensor:
        """Sum the outputs [..., D] of all layers."""
        outputs = list(outputs)
        assert len(outputs) == len(self.weights)
        return sum(
            weight * nn.functional.layer_norm(output.float(), output.shape[-1:])
            for weight, output in zip(self.weights.softmax(dim=0), outputs)
        )
