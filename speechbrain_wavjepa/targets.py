"""The target encoder: an average of past context encoders, and its targets.

Sources: WavJEPA (https://arxiv.org/abs/2509.23238) for the whole, data2vec
(https://arxiv.org/abs/2202.03555) for the average over layers.

Shapes: B windows, N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.nnet.transformer import TransformerEncoder


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
