"""A learned weighted sum of the layers of an encoder.

Shapes: K layers, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.utils.strict_module import StrictModule


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
