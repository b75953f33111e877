"""The predictor: from context tokens to guesses of hidden target blocks.

Source: WavJEPA (https://arxiv.org/abs/2509.23238), after I-JEPA
(https://arxiv.org/abs/2301.08243).

Shapes: B windows, K target blocks, N tokens, A context tokens of all
windows, R target tokens of all blocks, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.masking import BlockMask
from speechbrain_wavjepa.nnet.transformer import (
    Packing,
    TransformerEncoder,
    initialize_linear,
)


class Predictor(nn.Module):
    """Guesses the targets of each block from the context.

    Each target block is a sequence of its own: the window's context tokens
    and, at the block's places, mask tokens. Nothing else is computed.

    Arguments
    ---------
    encoder_dim : int
        Size of the encoders' tokens.
    dim : int
        Size of the predictor's tokens.
    depth : int
        Number of blocks.
    num_heads : int
        Attention heads of each block.
    mlp_ratio : float
        Width of the feed-forward networks over dim.

    Example
    -------
    >>> from speechbrain_wavjepa.masking import BlockMasker
    >>> predictor = Predictor(encoder_dim=16, dim=8, depth=2, num_heads=2)
    >>> block_mask = BlockMasker()(2, 200)
    >>> context = torch.randn(int(block_mask.context_mask.sum()), 16)
    >>> prediction = predictor(context, block_mask, torch.randn(200, 8))
    >>> bool(prediction.shape[0] == block_mask.target_masks.sum())
    True
    """

    def __init__(
        self,
        encoder_dim: int = 768,
        dim: int = 384,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
    ):
        super().__init__()
        self.dim = dim
        self.input_projection = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.encoder = TransformerEncoder(dim, depth, num_heads, mlp_ratio)
        self.output_projection = nn.Linear(dim, encoder_dim)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.input_projection.apply(initialize_linear)
        self.output_projection.apply(initialize_linear)

    def forward(
        self, context: Tensor, block_mask: BlockMask, positions: Tensor
    ) -> Tensor:
        """Predict the tokens of every target block.

        Arguments
        ---------
        context : [A, encoder_dim]
            Encoded context tokens, window after window.
        block_mask : BlockMask
            On the CPU; says which tokens these are and which to predict.
        positions : [N, dim]
            Position table.

        Returns
        -------
        [R, encoder_dim]
            Predictions in the order of ``target_masks.nonzero()``.
        """
        device = context.device
        context_mask, target_masks = block_mask
        num_blocks = target_masks.shape[1]
        seen = context_mask[:, None] | target_masks  # [B, K, N]
        window, _, place = seen.nonzero(as_tuple=True)  # [M] each
        is_target = target_masks[seen]  # [M]
        # row of each context token in the flat context
        order = context_mask.flatten().cumsum(0) - 1  # [B*N]
        row = order[window * context_mask.shape[1] + place]
        context_rows = (~is_target).nonzero().squeeze(1)
        target_rows = is_target.nonzero().squeeze(1)
        lengths = seen.sum(dim=2).flatten()  # [B*K]
        assert len(lengths) == len(context_mask) * num_blocks

        # positions and residual stream stay in float32 under autocast
        tokens = self.mask_token[0].expand(len(row), -1)  # [M, dim]
        projected = self.input_projection(context).to(tokens)
        source = row[context_rows].to(device, non_blocking=True)
        tokens = tokens.index_copy(
            0,
            context_rows.to(device, non_blocking=True),
            projected.index_select(0, source),
        )
        place = place.to(device, non_blocking=True)
        tokens = tokens + positions.index_select(0, place)
        predicted = self.encoder(
            tokens,
            Packing.from_lengths(lengths, device),
            output_rows=target_rows.to(device, non_blocking=True),
        )
        return self.output_projection(predicted)
