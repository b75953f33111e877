"""Sequences of different lengths in one flat matrix of tokens.

Shapes: S sequences, L tokens of the longest, M tokens of all sequences
together, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor


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
