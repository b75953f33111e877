"""WavJEPA: predict the representation of hidden sound from what is heard.

Source: "WavJEPA: Semantic learning unlocks robust audio foundation models
for raw waveforms" (https://arxiv.org/abs/2509.23238).

Shapes: B windows, T samples, C channels, N tokens of a channel, K target
blocks, A context tokens and R target tokens of all windows, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterator
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.masking import BlockMask
from speechbrain_wavjepa.nnet.positions import channel_time_positions
from speechbrain_wavjepa.nnet.transformer import Packing, initialize_linear
from speechbrain_wavjepa.utils.strict_module import StrictModule


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
    frontend : speechbrain_wavjepa.frontends.Frontend
        Waveform to tokens.
    context_encoder : speechbrain_wavjepa.nnet.transformer.TransformerEncoder
        The encoder that is trained, and used afterwards.

    Example
    -------
    >>> from speechbrain_wavjepa.frontends import ConvFrontend
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
    frontend : speechbrain_wavjepa.frontends.Frontend
        Waveform to tokens.
    context_encoder : speechbrain_wavjepa.nnet.transformer.TransformerEncoder
        The encoder that is trained, and used afterwards.
    target_encoder : speechbrain_wavjepa.targets.TargetEncoder
        Its moving average.
    predictor : speechbrain_wavjepa.predictor.Predictor
        Guesses targets from the context.

    Example
    -------
    >>> from speechbrain_wavjepa.frontends import ConvFrontend
    >>> from speechbrain_wavjepa.masking import BlockMasker
    >>> from speechbrain_wavjepa.predictor import Predictor
    >>> from speechbrain_wavjepa.targets import TargetEncoder
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

    def forward(self, waveform: Tensor, block_mask: BlockMask) -> JEPAOutput:
        """Predict the target blocks of windows from their context.

        Arguments
        ---------
        waveform : [B, T, C]
            Standardized windows.
        block_mask : BlockMask
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
