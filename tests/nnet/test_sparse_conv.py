"""The sparse gradient against finite differences."""

import pytest
import torch

from speechbrain_wavjepa.nnet.sparse_conv import (
    SparseGradientStack,
    find_active_rows,
)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_gradcheck(density):
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "requires_grad": True}
    waveform = 0.5 + torch.randn(2, 72, dtype=torch.float64)
    mask = torch.rand(2, 5) < density
    mask[0, -1] = True
    rows = find_active_rows(mask, [3, 2], [2, 2])
    norm = torch.rand(3, **options), torch.randn(3, **options)
    shapes = (3, 1, 4), (4, 3, 3), (2, 4, 2)
    weights = [torch.randn(*shape, **options) for shape in shapes]

    def wanted_tokens(*parameters):
        return SparseGradientStack.apply(
            waveform, rows, [3, 2, 2], 1e-5, *parameters
        )[mask]

    assert torch.autograd.gradcheck(wanted_tokens, (*norm, *weights))
