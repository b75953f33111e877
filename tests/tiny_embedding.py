"""A tiny embedding model and clips for it."""

import torch

from speechbrain_wavjepa.lobes import ConvFrontend, WavJEPAEncoder
from speechbrain_wavjepa.nnet import TransformerEncoder

LAYERS = [[8, 10, 5], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 3, 2], [8, 2, 2]]


def make_model(channels=1):
    """Make a model whose tokens depend on all that they hear."""
    torch.manual_seed(0)
    model = WavJEPAEncoder(
        ConvFrontend(8, LAYERS, channels), TransformerEncoder(16, 3, 2)
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def make_clips(num_samples, channels=1, count=1):
    return torch.randn(
        count, num_samples, channels, generator=torch.Generator().manual_seed(1)
    )
