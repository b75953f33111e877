"""HEAR-Naive against its description, number by number."""

import math

import pytest
import torch

from speechbrain_wavjepa.evaluation import MelBaseline


def test_the_projection_is_the_one_of_seed_0():
    projection = MelBaseline().projection
    assert projection.shape == (256, 4096)
    first = [round(value, 4) for value in projection[0, :4].tolist()]
    last = [round(value, 4) for value in projection[255, -3:].tolist()]
    assert first == [0.0310, 0.0480, 0.0055, 0.0083]
    assert last == [0.0056, 0.0532, 0.0045]
    assert projection.mean().item() == pytest.approx(0.0313, abs=1e-4)


def test_mel_bands():
    bands = MelBaseline().bands
    assert (bands.sum(dim=0) > 0).all()  # no band is empty
    # Slaney's scale is linear to 1 kHz, with 15 mel to it; areas are equal
    top = 15 + math.log(22.05) / (math.log(6.4) / 27)
    centres = torch.arange(1, 257) * top / 257
    hertz = torch.where(
        centres < 15,
        centres * 1000 / 15,
        1000 * torch.exp((centres - 15) * math.log(6.4) / 27),
    )
    peaks = bands.argmax(dim=0) * 44100 / 4096
    assert (peaks - hertz).abs().max() < 44100 / 4096
    wide = bands.sum(dim=0)[128:] * 44100 / 4096
    torch.testing.assert_close(wide, torch.ones(128), rtol=0.05, atol=0)


@pytest.mark.parametrize("num_samples", [44100, 50000])
def test_frames_are_centred_on_multiples_of_the_hop(num_samples):
    baseline = MelBaseline(44100)
    clip = torch.zeros(1, num_samples)
    clip[0, 2205 * 7] = 1.0
    output = baseline(clip)
    assert output["embeddings"].shape[1] == num_samples // 2205 + 1
    assert output["embeddings"].sum(dim=2).argmax() == 7
    assert output["times"][7] == pytest.approx(0.35)
    scene = baseline.embed(clip)
    frames = baseline._frames(clip, 11025)
    assert frames.shape[1] == num_samples // 11025 + 1
    torch.testing.assert_close(scene[0, 0], frames[0].mean(dim=0))


def test_a_frame_by_hand():
    baseline = MelBaseline(44100)
    clip = torch.randn(1, 44100, generator=torch.Generator().manual_seed(0))
    start = 4 * 2205 - 2048
    angle = 2 * math.pi * torch.arange(4096, dtype=torch.float64) / 4096
    window = 0.5 - 0.5 * angle.cos()
    spectrum = torch.fft.rfft(clip[0, start : start + 4096].double() * window)
    power = spectrum.real**2 + spectrum.imag**2
    mel = (power @ baseline.bands.double() + 1e-4).log()
    expected = mel @ baseline.projection.double()
    torch.testing.assert_close(
        baseline(clip)["embeddings"][0, 4].double(), expected, rtol=1e-5, atol=0
    )
