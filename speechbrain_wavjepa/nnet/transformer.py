"""The Vision Transformer blocks of WavJEPA, on packed tokens.

Windows keep different numbers of tokens, so the tokens of a batch travel as
one flat matrix: linear layers and norms touch no padding at all, and only
the attention core, a few per cent of the work, sees the sequences side by
side. A :class:`Packing` says where each token
belongs.

Sources: "An Image is Worth 16x16 Words" (https://arxiv.org/abs/2010.11929),
"Attention Is All You Need" (https://arxiv.org/abs/1706.03762).

Shapes: S sequences, L tokens of the longest, M tokens of all sequences
together, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

Sequences of different lengths in one flat matrix of tokens.

Shapes: S sequences, L tokens of the longest, M tokens of all sequences
together, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

A learned weighted sum of the layers of an encoder.

Shapes: K layers, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from speechbrain_wavjepa.utils.strict_module import StrictModule


class Packing(NamedTuple):
    """Where the tokens of several sequences lie in one flat matrix.

    Arguments
    ---------
    num_sequences : int
        S, the number of sequences.
    longest : int
        L, tokens of the longest sequence.
    rows : [M] int64, optional
        Place of each token in the [S * L] grid; None if all sequences have L
        tokens, so that the flat matrix is the grid itself.
    key_mask : [S, 1, 1, L] bool, optional
        True where the grid holds a token; None as for ``rows``.

    Example
    -------
    >>> packing = Packing.from_lengths(torch.tensor([2, 3]))
    >>> packing.rows
    tensor([0, 1, 3, 4, 5])
    >>> packing.to_grid(torch.ones(5, 1)).squeeze(-1)
    tensor([[1., 1., 0.],
            [1., 1., 1.]])
    """

    num_sequences: int
    longest: int
    rows: Optional[Tensor] = None
    key_mask: Optional[Tensor] = None

    @classmethod
    def from_lengths(
        cls, lengths: Tensor, device: Optional[torch.device] = None
    ) -> "Packing":
        """Make the packing of sequences with these lengths ([S], on the CPU).

        Built on the CPU on purpose: finding rows on a GPU would make it wait.
        """
        longest = int(lengths.max())
        if bool((lengths == longest).all()):
            return cls(len(lengths), longest)
        mask = torch.arange(longest) < lengths[:, None]  # [S, L]
        rows = mask.flatten().nonzero().squeeze(1)
        return cls(
            len(lengths),
            longest,
            rows.to(device, non_blocking=True),
            mask[:, None, None].to(device, non_blocking=True),
        )

    def to_grid(self, tokens: Tensor) -> Tensor:
        """Lay flat tokens [M, D] out as [S, L, D], zeros in the gaps."""
        if self.rows is not None:
            grid = tokens.new_zeros(
                self.num_sequences * self.longest, tokens.shape[1]
            )
            tokens = grid.index_copy(0, self.rows, tokens)
        return tokens.view(self.num_sequences, self.longest, -1)

    def to_flat(self, grid: Tensor) -> Tensor:
        """Take the tokens [M, D] out of a grid [S, L, D]."""
        tokens = grid.reshape(self.num_sequences * self.longest, -1)
        if self.rows is None:
            return tokens
        return tokens.index_select(0, self.rows)


class Attention(nn.Module):
    """Multi-head self-attention inside each sequence of a packing.

    Arguments
    ---------
    dim : int
        Size of a token.
    num_heads : int
        Number of heads; divides dim.

    Example
    -------
    >>> import torch
    >>> packing = Packing.from_lengths(torch.tensor([2, 3]))
    >>> Attention(dim=8, num_heads=2)(torch.randn(5, 8), packing).shape
    torch.Size([5, 8])
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"dim={dim} cannot be split among num_heads={num_heads}: "
                "choose a divisor."
            )
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)

    def forward(
        self,
        tokens: Tensor,
        packing: Packing,
        output_rows: Optional[Tensor] = None,
    ) -> Tensor:
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
    """Attention and feed-forward network with residual connections.

    Arguments
    ---------
    dim : int
        Size of a token.
    num_heads : int
        Number of attention heads.
    mlp_ratio : float
        Width of the feed-forward network over dim.
    norm_first : bool
        Whether the norms come before the two parts (pre-norm) or after their
        residuals (post-norm, as WavJEPA).

    Example
    -------
    >>> import torch
    >>> packing = Packing.from_lengths(torch.tensor([2, 3]))
    >>> Block(dim=8, num_heads=2)(torch.randn(5, 8), packing).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        norm_first: bool = False,
    ):
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

    def forward(
        self,
        tokens: Tensor,
        packing: Packing,
        output_rows: Optional[Tensor] = None,
    ) -> Tensor:
        """Transform tokens [M, D]; carry on only output_rows, if given."""
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
    """A stack of blocks with a final LayerNorm.

    Every layer is initialised by itself (the authors' released code starts
    all layers with equal attention weights).

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
    >>> import torch
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
        """Encode tokens.

        Arguments
        ---------
        tokens : [S, L, D] or, with a packing, [M, D]
            The tokens.
        packing : Packing, optional
            Where the sequences lie in flat tokens.
        output_rows : [R] int64, optional
            Flat tokens that are wanted: behind the last attention only they
            are computed.

        Returns
        -------
        same shape as tokens, or [R, D] with output_rows
            The encoded tokens.
        """
        shape = tokens.shape
        if packing is None:
            packing = Packing(shape[0], shape[1])
            tokens = tokens.flatten(0, 1)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, packing)
        tokens = self.layers[-1](tokens, packing, output_rows)
        tokens = self.norm(tokens)
        return tokens if output_rows is not None else tokens.view(shape)

    def layer_outputs(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the output [S, L, D] of each layer, before the final norm."""
        packing = Packing(tokens.shape[0], tokens.shape[1])
        flat = tokens.flatten(0, 1)
        for layer in self.layers:
            flat = layer(flat, packing)
            yield flat.view(tokens.shape)


def initialize_linear(module: nn.Module):
    """Draw linear weights from a normal of deviation 0.02, set biases to 0.

    Arguments
    ---------
    module : nn.Module
        Any module; only nn.Linear is touched.

    Example
    -------
    >>> linear = nn.Linear(4, 4)
    >>> initialize_linear(linear)
    >>> linear.bias.abs().sum().item()
    0.0
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class LayerSum(StrictModule):
    """Sums the normalised outputs of all layers; begins with their mean.

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
