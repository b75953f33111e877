"""WavJEPA, the method on one page.

From some tokens of a window, the context, predict what a target encoder that
sees all tokens makes of the hidden ones, one block of them at a time.

Sources: WavJEPA (https://arxiv.org/abs/2509.23238), after I-JEPA
(https://arxiv.org/abs/2301.08243) and data2vec
(https://arxiv.org/abs/2202.03555).

Shapes: B windows, T samples, C channels, N tokens of a channel, K target
blocks, A context tokens and R target tokens of all windows, M tokens of all
the predictor's sequences, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from speechbrain_wavjepa.lobes.masking import JEPAMask
from speechbrain_wavjepa.nnet.positions import channel_time_positions
from speechbrain_wavjepa.nnet.transformer import (
    Packing,
    TransformerEncoder,
    initialize_linear,
)
from speechbrain_wavjepa.utils.strict_module import StrictModule


class WavJEPAEncoder(StrictModule):
    """What is used after pretraining: front-end and context encoder.

    Front-end tokens are normed, mapped to the encoder's dim and given their
    positions, which are computed and not part of the state dict.

    Arguments
    ---------
    frontend : Frontend
        Waveform to tokens.
    context_encoder : TransformerEncoder
        The encoder that is trained, and used afterwards.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> frontend = ConvFrontend(dim=8, layers=[[8, 160, 160]])
    >>> model = WavJEPAEncoder(frontend, TransformerEncoder(16, 2, 2))
    >>> model.encode(torch.randn(2, 32000, 1)).shape
    torch.Size([2, 200, 16])
    """

    def __init__(self, frontend, context_encoder):
        super().__init__()
        self.frontend = frontend
        self.token_norm = nn.LayerNorm(frontend.dim, eps=1e-5)
        self.token_projection = nn.Identity()
        if frontend.dim != context_encoder.dim:
            self.token_projection = nn.Linear(frontend.dim, context_encoder.dim)
            initialize_linear(self.token_projection)
        self.context_encoder = context_encoder

    def encode(
        self,
        waveform: Tensor,
        keep_mask: Optional[Union[Tensor, np.ndarray]] = None,
    ) -> Tensor:
        """Encode standardized windows [B, T, C] to tokens [B, C*N, D].

        Where ``keep_mask`` [B, C*N] (on the CPU, some True in each window) is
        False, tokens are seen by none and come out as zeros.
        """
        tokens = self.frontend(waveform)
        if keep_mask is None:
            return self.context_encoder(self._embed(tokens))
        packing = Packing.from_mask(keep_mask).to(tokens.device)
        encoded = self.context_encoder(self._embed(tokens, packing), packing)
        grid = encoded.new_zeros(*keep_mask.shape, encoded.shape[1])
        grid = grid.flatten(0, 1).index_copy(0, packing.rows, encoded)
        return grid.view(*keep_mask.shape, -1)

    def encode_layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield each layer's output [B, C*N, D] for windows [B, T, C]."""
        tokens = self._embed(self.frontend(waveform))
        return self.context_encoder.layer_outputs(tokens)

    def _embed(self, tokens, packing=None) -> Tensor:
        """Make encoder input of front-end tokens, all or packed: [A, D]."""
        positions = self._positions(tokens.shape[1], self.context_encoder.dim)
        if packing is not None:
            tokens = tokens.flatten(0, 1).index_select(0, packing.rows)
            positions = positions.index_select(0, packing.places)
        return self.token_projection(self.token_norm(tokens)) + positions

    def _positions(self, num_tokens: int, dim: int) -> Tensor:
        """Look up the positions [C*N, dim] of channel-major tokens."""
        channels = self.frontend.channels
        weight = self.token_norm.weight
        return channel_time_positions(
            num_tokens // channels, dim, channels, weight.device, weight.dtype
        )


class TargetEncoder(nn.Module):
    """An exponential moving average of the context encoder.

    It sees all tokens and makes the targets: the mean of its last layers,
    each normalised. It never receives gradients.

    Arguments
    ---------
    context_encoder : TransformerEncoder
        The encoder to copy at the start and to follow afterwards.
    top_k_layers : int
        How many of the last layers are averaged.
    target_norm : str
        "joint": one mean and one variance for each window and layer, over
        tokens and features together (what the authors' released code
        computes, hence the published figures). "feature": one mean and
        variance for each feature over the tokens (instance norm in the
        paper's words, data2vec's choice). With one layer "joint" normalises
        nothing, as the released code.

    Raises
    ------
    ValueError
        If there are fewer layers than top_k_layers, or the norm is unknown.

    Example
    -------
    >>> context_encoder = TransformerEncoder(dim=8, depth=3, num_heads=2)
    >>> target_encoder = TargetEncoder(context_encoder, top_k_layers=2)
    >>> target_encoder(torch.randn(2, 200, 8)).shape
    torch.Size([2, 200, 8])
    >>> target_encoder.update(context_encoder, decay=0.999)
    """

    def __init__(
        self,
        context_encoder: TransformerEncoder,
        top_k_layers: int = 8,
        target_norm: str = "joint",
    ):
        super().__init__()
        if not 1 <= top_k_layers <= context_encoder.depth:
            raise ValueError(
                f"top_k_layers={top_k_layers} must lie between 1 and the "
                f"encoder's depth, {context_encoder.depth}."
            )
        if target_norm not in ("joint", "feature"):
            raise ValueError(
                f"target_norm={target_norm!r} must be 'joint' or 'feature'."
            )
        self.encoder = copy.deepcopy(context_encoder).requires_grad_(False)
        self.top_k_layers = top_k_layers
        self.target_norm = target_norm

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the targets [B, N, D] of all tokens [B, N, D]."""
        first = self.encoder.depth - self.top_k_layers
        total = 0.0
        for index, output in enumerate(self.encoder.layer_outputs(tokens)):
            if index >= first:
                total = total + self._normalize(output)
        return total / self.top_k_layers

    def _normalize(self, output: Tensor) -> Tensor:
        """Normalise one layer's output, in float32 at least."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        if self.target_norm == "feature":
            output = output.transpose(1, 2)  # [B, D, N]
            output = nn.functional.instance_norm(output, eps=1e-5)
            return output.transpose(1, 2)
        if self.top_k_layers == 1:
            return output
        return nn.functional.layer_norm(output, output.shape[1:], eps=1e-5)

    @torch.no_grad()
    def update(self, context_encoder: TransformerEncoder, decay: float):
        """Move the weights to decay * old + (1 - decay) * new."""
        old, new = self.encoder.parameters(), context_encoder.parameters()
        torch._foreach_lerp_(list(old), list(new), 1 - decay)


class Predictor(nn.Module):
    """Predicts the targets of each block from the context.

    Each target block is a sequence of its own: the window's context tokens
    and, at the block's places, mask tokens. Nothing else is computed.

    Arguments
    ---------
    encoder_dim : int
        Size of the encoders' tokens.
    dim : int
        Size of the predictor's tokens.
    depth, num_heads, mlp_ratio : int, int, float
        Those of its TransformerEncoder.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import BlockMasker
    >>> predictor = Predictor(encoder_dim=16, dim=8, depth=2, num_heads=2)
    >>> mask = BlockMasker()(2, 200)
    >>> context = torch.randn(int(mask.context_mask.sum()), 16)
    >>> prediction = predictor(context, mask, positions=torch.randn(200, 8))
    >>> len(prediction) == mask.target_masks.sum()
    tensor(True)
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
        initialize_linear(self.input_projection)
        initialize_linear(self.output_projection)

    def forward(
        self, context: Tensor, mask: JEPAMask, positions: Tensor
    ) -> Tensor:
        """Predict the targets [R, D] of all blocks from the context [A, D].

        ``positions`` [C*N, dim] is the table of the predictor's positions.
        """
        packing = mask.predictor
        # mask tokens, with copies of the context between them; these, the
        # positions and the residual stream stay in float32 under autocast
        tokens = self.mask_token[0].expand(len(packing.rows), -1)  # [M, dim]
        context = self.input_projection(context).to(tokens)  # [A, dim]
        tokens = tokens.index_copy(
            0, mask.context_rows, context.index_select(0, mask.context_source)
        )
        tokens = tokens + positions.index_select(0, packing.places)
        predicted = self.encoder(tokens, packing, mask.target_rows)  # [R, dim]
        return self.output_projection(predicted)


class WavJEPA(WavJEPAEncoder):
    """The model of pretraining: context encoder, target encoder, predictor.

    Arguments
    ---------
    frontend, context_encoder : Frontend, TransformerEncoder
        As those of WavJEPAEncoder.
    target_encoder : TargetEncoder
        The moving average of the context encoder.
    predictor : Predictor
        Predicts targets from the context.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import BlockMasker, ConvFrontend
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> context_encoder = TransformerEncoder(dim=16, depth=2, num_heads=2)
    >>> model = WavJEPA(
    ...     ConvFrontend(dim=8, layers=[[8, 160, 160]]),
    ...     context_encoder,
    ...     TargetEncoder(context_encoder, top_k_layers=2),
    ...     Predictor(encoder_dim=16, dim=8, depth=1, num_heads=2),
    ... )
    >>> output = model(torch.randn(2, 32000, 1), BlockMasker()(2, 200))
    >>> output.target.shape
    torch.Size([2, 200, 16])
    """

    def __init__(self, frontend, context_encoder, target_encoder, predictor):
        super().__init__(frontend, context_encoder)
        self.target_encoder = target_encoder
        self.predictor = predictor

    def forward(self, waveform: Tensor, mask: JEPAMask) -> "JEPAOutput":
        """Predict the target blocks of standardized windows [B, T, C].

        The mask lies on their device; ValueError if it does not fit them.
        """
        num_tokens = self.frontend.num_tokens(waveform.shape[1])
        expected = (len(waveform), num_tokens * self.frontend.channels)
        if mask.context_mask.shape != expected:
            raise ValueError(
                f"Masks of shape {list(mask.context_mask.shape)} do not fit "
                f"windows of [B, C*N] = {list(expected)}: draw them with "
                f"num_tokens={num_tokens}, channels={self.frontend.channels}."
            )
        # targets are detached: only context tokens need the gradient
        tokens = self.frontend(waveform, mask.gradient_rows)
        context = self._embed(tokens, mask.context)  # [A, D]
        context = self.context_encoder(context, mask.context)
        with torch.no_grad():
            target = self.target_encoder(self._embed(tokens))  # [B, C*N, D]
        positions = self._positions(expected[1], self.predictor.dim)
        prediction = self.predictor(context, mask, positions)  # [R, D]
        return JEPAOutput(prediction, target, mask, context)


class JEPAOutput(NamedTuple):
    """What one pass of pretraining gives; arguments are the fields below.

    Example
    -------
    >>> JEPAOutput._fields
    ('prediction', 'target', 'mask', 'context')
    """

    prediction: Tensor  # [R, D], as mask.target_masks.nonzero()
    target: Tensor  # [B, C*N, D] of all tokens, without gradient
    mask: JEPAMask
    context: Tensor  # [A, D], as mask.context_mask.nonzero()


def masked_mse(prediction: Tensor, target: Tensor, mask: JEPAMask) -> Tensor:
    """Mean squared error over all target tokens of all blocks, in float32.

    A token counts once for each block that predicts it.

    Arguments
    ---------
    prediction : [R, D]
        Predictions in the order of ``mask.target_masks.nonzero()``.
    target : [B, C*N, D]
        Targets of all tokens.
    mask : JEPAMask
        Which tokens each block predicts.

    Returns
    -------
    scalar
        The loss.

    Example
    -------
    >>> context_mask = torch.tensor([[True, False, False]])
    >>> target_masks = torch.tensor([[[False, True, False]]])
    >>> mask = JEPAMask(context_mask, target_masks)
    >>> masked_mse(torch.zeros(1, 4), 2 * torch.ones(1, 3, 4), mask)
    tensor(4.)
    """
    assert len(mask.loss_rows) == len(prediction) > 0
    target = target.flatten(0, 1).index_select(0, mask.loss_rows)
    precision = torch.promote_types(target.dtype, torch.float32)
    return nn.functional.mse_loss(
        prediction.to(precision), target.to(precision)
    )
