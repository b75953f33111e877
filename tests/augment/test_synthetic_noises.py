"""Procedural noises: deterministic, of unit level, four kinds."""

import pytest
import torch

from speechbrain_wavjepa.augment.noises import SyntheticNoises


def test_same_seed_same_noise_whatever_was_drawn_before():
    first, second = SyntheticNoises(8, seed=1), SyntheticNoises(8, seed=1)
    first[0]
    for index in range(8):
        assert torch.equal(first[index], second[index])
    assert not torch.equal(
        first[0][:20000], SyntheticNoises(8, seed=2)[0][:20000]
    )


def test_noises_are_finite_and_of_unit_level():
    for noise in (SyntheticNoises(40)[index] for index in range(40)):
        assert 20000 <= len(noise) <= 80000
        assert noise.square().mean().sqrt().item() == pytest.approx(1, abs=1e-4)


def spectral_peak(noise):
    """Find the loudest frequency in Hz."""
    spectrum = torch.fft.rfft(noise).abs()
    return int(spectrum.argmax()) * 16000 / len(noise)


def test_kinds_are_what_they_are_called():
    noises = SyntheticNoises(40, seed=5)
    for index in range(0, 40, 4):
        wind, hum, _, rain = (noises[index + kind] for kind in range(4))
        # hum: the loudest line is a low harmonic of the mains
        assert min(spectral_peak(hum) % 50, spectral_peak(hum) % 60) < 1.0 or (
            min(50 - spectral_peak(hum) % 50, 60 - spectral_peak(hum) % 60) < 1
        )
        # rain: clicks make its samples far from normal; wind: less so
        kurtosis = [
            (noise**4).mean() / (noise**2).mean() ** 2 for noise in (rain, wind)
        ]
        assert kurtosis[0] > 10 > kurtosis[1]


@pytest.mark.parametrize(
    "change", [{"num_clips": 0}, {"seconds": 0.1}, {"sample_rate": 10}]
)
def test_impossible_settings_are_named(change):
    (value,) = change.values()
    with pytest.raises(ValueError, match=str(value)):
        SyntheticNoises(**change)


def test_behind_the_last_noise_there_is_none():
    with pytest.raises(IndexError):
        SyntheticNoises(3)[3]
