"""Scenes and resampling against the numbers of the authors' code."""

import pytest
import torch
from official import read_numbers

from speechbrain_wavjepa.augment import SceneMixer, SceneParts
from speechbrain_wavjepa.augment.scenes import convolve, fit_noise
from speechbrain_wavjepa.processing import resample

FLOAT32 = {"rtol": 1e-6, "atol": 1e-6}  # against numbers stored in float32


@pytest.fixture(scope="module")
def numbers():
    """The scene in float64."""
    return {key: value.double() for key, value in read_numbers("scene").items()}


def make_parts(numbers, **changes):
    """The authors' scene as parts; the same noise at all its positions."""
    parts = {
        "rows": torch.tensor([0]),
        "source_response": numbers["in.responses"][:1],
        "noise_responses": numbers["in.responses"][None, 1:],
        "noise": numbers["in.noise"][None],
        "noise_span": torch.tensor([[0, len(numbers["in.noise"])]]),
        "snr_db": numbers["in.snr_db"],
    }
    return SceneParts(**{**parts, **changes})


def test_source_and_noises_reach_the_ears_alike(numbers):
    responses = numbers["in.responses"]
    source = convolve(numbers["in.source"], responses[0])
    noise = convolve(numbers["in.noise"], responses[1:].sum(dim=0))
    torch.testing.assert_close(
        source[:, ::3], numbers["out.convolved_source"], **FLOAT32
    )
    torch.testing.assert_close(
        noise[:, ::3], numbers["out.aggregated_noise"], **FLOAT32
    )


def test_gain_of_each_ear(numbers):
    # one sample that has the energy of the whole scene
    source = numbers["energy.source"].sqrt()[None, :, None]
    noise = numbers["energy.noise"].sqrt()[None, :, None]
    mixer = SceneMixer(snr_per_channel=True)
    gain = mixer.noise_gain(source, noise, make_parts(numbers))
    torch.testing.assert_close(
        gain[0, :, 0], numbers["out.noise_gain"], **FLOAT32
    )


def test_mix(numbers, monkeypatch):
    # the gain depends on the whole scene, of which only the head is here
    gain = numbers["out.noise_gain"][None, :, None]
    monkeypatch.setattr(SceneMixer, "noise_gain", lambda *parts: gain)
    waveform = numbers["in.source"][None, :, None]
    mixed = SceneMixer()(waveform, make_parts(numbers))
    torch.testing.assert_close(mixed[0, ::3].T, numbers["out.mix"], **FLOAT32)


@pytest.mark.parametrize(
    "case, num_noise", [("equal", 1200), ("shorter", 900), ("longer", 1500)]
)
def test_fades(numbers, case, num_noise):
    noise = torch.ones(num_noise, dtype=torch.float64)
    faded, (start, stop) = fit_noise(noise, 1200, 400)
    torch.testing.assert_close(
        faded[start:stop][::8], numbers[f"fade.{case}_gain"], **FLOAT32
    )


def test_resampling_is_the_authors_filter(numbers):
    resampled = resample(numbers["resample.in"][:, None].float(), 32000, 16000)
    expected = numbers["resample.out"].float()
    torch.testing.assert_close(
        resampled[: len(expected), 0], expected, rtol=0, atol=2e-6
    )
