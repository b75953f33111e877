"""SpeechBrain's own filters give equal values for equal parameters."""

import math

import torch
from speechbrain.nnet.CNN import GaborConv1d, SincConv
from speechbrain.nnet.normalization import PCEN as TheirPCEN
from speechbrain.nnet.pooling import GaussianLowpassPooling

from speechbrain_wavjepa.nnet import filters

WAVEFORM = torch.randn(2, 900, generator=torch.Generator().manual_seed(0))


def close(ours, theirs):
    """Assert closeness in float32."""
    scale = theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * scale)


def test_gabor_kernels():
    theirs = GaborConv1d(16, 201, 1, in_channels=1, padding="valid")
    center, width = theirs.kernel.detach().unbind(dim=1)
    kernels = filters.gabor_kernels(center, width, 201)
    ours = torch.nn.functional.conv1d(WAVEFORM[:, None], kernels[:, None])
    # theirs lie real, imaginary, real, ...
    ours = ours.unflatten(1, (2, 8)).transpose(1, 2).flatten(1, 2)
    close(ours.transpose(1, 2), theirs(WAVEFORM[:, :, None]).detach())


def test_sinc_kernels():
    theirs = SincConv(8, 101, in_channels=1, padding="valid")
    # the symmetric window instead of the periodic one
    window = torch.hamming_window(101, periodic=False)
    theirs.window_ = window[:50]
    unit = 2 * math.pi / 16000
    low = 50 + theirs.low_hz_.detach()[:, 0].abs()
    high = low + 50 + theirs.band_hz_.detach()[:, 0].abs()
    kernels = filters.sinc_kernels(
        unit * low, (unit * high).clamp(max=math.pi), 101
    )
    ours = torch.nn.functional.conv1d(WAVEFORM[:, None], kernels[:, None])
    close(ours.transpose(1, 2), theirs(WAVEFORM).detach())


def test_pcen():
    energy = torch.rand(2, 50, 8)
    theirs, ours = TheirPCEN(8), filters.PCEN(8)
    with torch.no_grad():
        for name in ("alpha", "delta", "root"):
            getattr(ours, name).mul_(torch.linspace(0.9, 1.04, 8))
            getattr(theirs, name).copy_(getattr(ours, name))
        ours.smooth.copy_(torch.linspace(0.02, 0.5, 8))
        theirs.ema._weights.copy_(ours.smooth)
    expected = theirs(energy).detach()
    close(ours(energy.transpose(1, 2)).detach().transpose(1, 2), expected)


def test_lowpass_windows():
    energy = torch.rand(2, 900, 4)
    theirs = GaussianLowpassPooling(4, 101, 40, padding="valid", bias=False)
    windows = filters.lowpass_windows(
        theirs.weights.detach()[0, 0, :, 0], 101, 1
    )
    ours = torch.nn.functional.conv1d(
        energy.transpose(1, 2), windows[:, None], stride=40, groups=4
    )
    close(ours.transpose(1, 2), theirs(energy).detach())
