"""WavJEPA: predict the representation of hidden sound from what is heard.

Source: "WavJEPA: Semantic learning unlocks robust audio foundation models
for raw waveforms" (https://arxiv.org/abs/2509.23238).

Shapes: B windows, T samples, C channels, N tokens of a channel, K target
blocks, A context tokens and R target tokens of all windows, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

The target encoder: an average of past context encoders, and its targets.

Sources: WavJEPA (https://arxiv.org/abs/2509.23238) for the whole, data2vec
(https://arxiv.org/abs/2202.03555) for the average over layers.

Shapes: B windows, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

The predictor: from context tokens to guesses of hidden target blocks.

Source: WavJEPA (https://arxiv.org/abs/2509.23238), after I-JEPA
(https://arxiv.org/abs/2301.08243).

Shapes: B windows, K target blocks, N tokens, A context tokens of all
windows, R target tokens of all blocks, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple, Optional

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


class TargetEncoder(nn.Module):
    """An exponential moving average of the context encoder.

    It sees all tokens and says what the predictor should have guessed: the
    mean of its last layers, each normalised. It never receives gradients.

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
                f"context encoder's depth, {context_encoder.depth}."
            )
        if target_norm not in ("joint", "feature"):
            raise ValueError(
                f"target_norm must be 'joint' or 'feature', got "
                f"{target_norm!r}."
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
        """Move towards the context encoder: decay * old + (1 - decay) * new.

        One grouped operation over all parameters, in their own precision.

        Arguments
        ---------
        context_encoder : TransformerEncoder
            The encoder after its optimizer step.
        decay : float
            Weight of the old value, from ``schedulers.EMADecay``.
        """
        torch._foreach_lerp_(
            list(self.encoder.parameters()),
            list(context_encoder.parameters()),
            1 - decay,
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
    >>> from speechbrain_wavjepa.lobes import BlockMasker
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
        self, context: Tensor, block_mask: JEPAMask, positions: Tensor
    ) -> Tensor:
        """Predict the tokens of every target block.

        Arguments
        ---------
        context : [A, encoder_dim]
            Encoded context tokens, window after window.
        block_mask : JEPAMask
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


class JEPAOutput(NamedTuple):
    """What one pretraining pass gives.

    Arguments
    ---------
    prediction : [R, D]
        Predictions of all target tokens, in the order of
        ``target_masks.nonzero()``.
    target : [B, C*N, D]
        Targets of all tokens, without gradient.
    target_masks : [B, K, C*N] bool
        Which tokens are targets, on the CPU.
    context : [A, D]
        Encoded context tokens, window after window.
    context_mask : [B, C*N] bool
        Which tokens are context, on the CPU.

    Example
    -------
    >>> mask = torch.tensor([[[True, False]]])
    >>> output = JEPAOutput(torch.ones(1, 3), torch.ones(1, 2, 3), mask)
    >>> masked_mse(output.prediction, output.target, output.target_masks)
    tensor(0.)
    """

    prediction: Tensor
    target: Tensor
    target_masks: Tensor
    context: Optional[Tensor] = None
    context_mask: Optional[Tensor] = None


class WavJEPAEncoder(StrictModule):
    """What is used after pretraining: front-end and context encoder.

    Positions are computed from the number of tokens and are not part of the
    state dict.

    Arguments
    ---------
    frontend : speechbrain_wavjepa.lobes.frontends.Frontend
        Waveform to tokens.
    context_encoder : speechbrain_wavjepa.nnet.transformer.TransformerEncoder
        The encoder that is trained, and used afterwards.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> model = WavJEPAEncoder(
    ...     frontend=ConvFrontend(dim=8, layers=[[8, 160, 160]]),
    ...     context_encoder=TransformerEncoder(dim=16, depth=2, num_heads=2),
    ... )
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
        self, waveform: Tensor, keep_mask: Optional[Tensor] = None
    ) -> Tensor:
        """Encode windows for downstream use.

        Arguments
        ---------
        waveform : [B, T, C]
            Standardized windows.
        keep_mask : [B, C*N] bool, optional
            Tokens to encode (default: all), on the CPU. The others are seen
            by none and come out as zeros. Each window keeps at least one.

        Returns
        -------
        [B, C*N, D]
            The encoded tokens.
        """
        tokens = self.frontend(waveform)
        if keep_mask is None:
            return self.context_encoder(self._embed(tokens))
        encoded = self._encode_kept(tokens, keep_mask)
        rows = keep_mask.flatten().nonzero().squeeze(1).to(tokens.device)
        grid = encoded.new_zeros(keep_mask.numel(), encoded.shape[1])
        return grid.index_copy(0, rows, encoded).view(*keep_mask.shape, -1)

    def encode_layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield each layer's output [B, C*N, D] for windows [B, T, C]."""
        tokens = self._embed(self.frontend(waveform))
        return self.context_encoder.layer_outputs(tokens)

    def _encode_kept(self, tokens: Tensor, keep_mask: Tensor) -> Tensor:
        """Run the context encoder on the kept tokens alone: [A, D]."""
        rows = keep_mask.flatten().nonzero().squeeze(1).to(tokens.device)
        positions = self._positions(
            keep_mask.shape[1], self.context_encoder.dim
        )
        kept = self._project(tokens.flatten(0, 1).index_select(0, rows))
        return self.context_encoder(
            kept + positions.index_select(0, rows % keep_mask.shape[1]),
            Packing.from_lengths(keep_mask.sum(dim=1), tokens.device),
        )

    def _embed(self, tokens: Tensor) -> Tensor:
        """Make encoder input [B, C*N, D] of all front-end tokens."""
        positions = self._positions(tokens.shape[1], self.context_encoder.dim)
        return self._project(tokens) + positions

    def _project(self, tokens: Tensor) -> Tensor:
        """Norm front-end tokens and map them to the encoder's dim."""
        return self.token_projection(self.token_norm(tokens))

    def _positions(self, num_tokens: int, dim: int) -> Tensor:
        """Look up the positions [C*N, dim] of channel-major tokens."""
        channels = self.frontend.channels
        weight = self.token_norm.weight
        return channel_time_positions(
            num_tokens // channels, dim, channels, weight.device, weight.dtype
        )


class WavJEPA(WavJEPAEncoder):
    """The model: front-end, context encoder, target encoder and predictor.

    Arguments
    ---------
    frontend : speechbrain_wavjepa.lobes.frontends.Frontend
        Waveform to tokens.
    context_encoder : speechbrain_wavjepa.nnet.transformer.TransformerEncoder
        The encoder that is trained, and used afterwards.
    target_encoder : speechbrain_wavjepa.lobes.wavjepa.TargetEncoder
        Its moving average.
    predictor : speechbrain_wavjepa.lobes.wavjepa.Predictor
        Guesses targets from the context.

    Example
    -------
    >>> from speechbrain_wavjepa.lobes import ConvFrontend
    >>> from speechbrain_wavjepa.lobes import BlockMasker
    >>> from speechbrain_wavjepa.lobes import Predictor
    >>> from speechbrain_wavjepa.lobes import TargetEncoder
    >>> from speechbrain_wavjepa.nnet import TransformerEncoder
    >>> context_encoder = TransformerEncoder(dim=16, depth=2, num_heads=2)
    >>> model = WavJEPA(
    ...     frontend=ConvFrontend(dim=8, layers=[[8, 160, 160]]),
    ...     context_encoder=context_encoder,
    ...     target_encoder=TargetEncoder(context_encoder, top_k_layers=2),
    ...     predictor=Predictor(encoder_dim=16, dim=8, depth=1, num_heads=2),
    ... )
    >>> windows = torch.randn(2, 32000, 1)
    >>> output = model(windows, BlockMasker()(2, 200))
    >>> output.target.shape
    torch.Size([2, 200, 16])
    >>> model.encode(windows).shape
    torch.Size([2, 200, 16])
    """

    def __init__(self, frontend, context_encoder, target_encoder, predictor):
        super().__init__(frontend, context_encoder)
        self.target_encoder = target_encoder
        self.predictor = predictor

    def forward(self, waveform: Tensor, block_mask: JEPAMask) -> JEPAOutput:
        """Predict the target blocks of windows from their context.

        Arguments
        ---------
        waveform : [B, T, C]
            Standardized windows.
        block_mask : JEPAMask
            Context and targets of each window, on the CPU.

        Returns
        -------
        JEPAOutput
            Predictions and targets.

        Raises
        ------
        ValueError
            If the masks do not fit the windows.
        """
        context_mask, target_masks = block_mask
        num_tokens = self.frontend.num_tokens(waveform.shape[1])
        expected = (len(waveform), num_tokens * self.frontend.channels)
        if context_mask.shape != expected:
            raise ValueError(
                f"Masks of shape {list(context_mask.shape)} do not fit "
                f"{len(waveform)} windows of {waveform.shape[1]} samples, "
                f"which have {expected[1]} tokens each: draw them with "
                f"num_tokens={num_tokens}, "
                f"channels={self.frontend.channels}."
            )
        tokens = self.frontend(waveform, gradient_mask=context_mask)
        context = self._encode_kept(tokens, context_mask)  # [A, D]
        with torch.no_grad():
            target = self.target_encoder(self._embed(tokens))
        positions = self._positions(expected[1], self.predictor.dim)
        prediction = self.predictor(context, block_mask, positions)
        return JEPAOutput(
            prediction, target, target_masks, context, context_mask
        )


def masked_mse(
    prediction: Tensor, target: Tensor, target_masks: Tensor
) -> Tensor:
    """Mean squared error over all target tokens of all blocks, in float32.

    A token that is a target in two blocks counts twice, once for each
    prediction of it.

    Arguments
    ---------
    prediction : [R, D]
        Predictions in the order of ``target_masks.nonzero()``.
    target : [B, N, D]
        Targets of all tokens.
    target_masks : [B, K, N] bool
        Which tokens each block predicts.

    Returns
    -------
    scalar
        The loss.

    Example
    -------
    >>> mask = torch.tensor([[[True, False], [True, True]]])
    >>> masked_mse(torch.zeros(3, 4), 2 * torch.ones(1, 2, 4), mask)
    tensor(4.)
    """
    window, _, place = target_masks.nonzero(as_tuple=True)
    rows = (window * target_masks.shape[2] + place).to(target.device)
    assert len(rows) == len(prediction) > 0
    target = target.flatten(0, 1).index_select(0, rows)
    precision = torch.promote_types(target.dtype, torch.float32)
    return nn.functional.mse_loss(
        prediction.to(precision), target.to(precision)
    )
