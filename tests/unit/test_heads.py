"""Heads: delays and levels at the ears, by direction."""

import numpy as np
import pytest

from speechbrain_wavjepa.heads import (
    SPEED_OF_SOUND,
    MeasuredHead,
    SphericalHead,
)


def direction(azimuth, elevation=0.0):
    """Make a unit vector [1, 3] from degrees."""
    azimuth, elevation = np.radians(azimuth), np.radians(elevation)
    return np.array(
        [
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ]
        ]
    )


def delay_between(left, right, rate):
    """Measure by how much the right ear is late, in seconds."""
    fine = 64
    spectrum = np.fft.rfft(right, 512) * np.fft.rfft(left, 512).conj()
    correlation = np.fft.irfft(spectrum, 512 * fine)
    shift = int(correlation.argmax())
    return (shift - 512 * fine * (shift > 256 * fine)) / fine / rate


@pytest.mark.parametrize("azimuth", [0, 15, 40, 65, 90, 120, 170, -30, -90])
def test_sphere_has_the_time_difference_of_woodworth(azimuth):
    head = SphericalHead()
    left, right = head.delay(direction(azimuth))[0]
    # the angle to the median plane
    lateral = np.arcsin(np.sin(np.radians(azimuth)))
    expected = 0.0875 / SPEED_OF_SOUND * (np.sin(lateral) + lateral)
    assert right - left == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rate", [16000, 32000, 48000])
@pytest.mark.parametrize("azimuth", [20, 60, -45])
def test_responses_carry_that_delay(rate, azimuth):
    head = SphericalHead(rate)
    left, right = head.responses(direction(azimuth))[0]
    delays = head.delay(direction(azimuth))[0]
    # the shadow's own phase adds to the delay at low frequencies
    measured = delay_between(left, right, rate)
    assert measured == pytest.approx(delays[1] - delays[0], abs=8e-5)


def test_ears_are_alike_ahead_behind_and_above():
    for place in (direction(0), direction(180), direction(0, 90)):
        left, right = SphericalHead().responses(place)[0]
        np.testing.assert_allclose(left, right, atol=1e-12)


def test_sides_are_mirrored():
    head = SphericalHead()
    from_left = head.responses(direction(50, 20))[0]
    from_right = head.responses(direction(-50, 20))[0]
    np.testing.assert_allclose(from_left, from_right[::-1], atol=1e-12)


def test_shadow_grows_with_frequency():
    left, right = SphericalHead().responses(direction(90))[0]
    frequency = np.fft.rfftfreq(512, 1 / 16000)
    ratio = np.abs(np.fft.rfft(left, 512) / np.fft.rfft(right, 512))
    decibel = 20 * np.log10(
        [ratio[np.argmin(np.abs(frequency - f))] for f in (100, 1000, 4000)]
    )
    assert decibel[0] < 3 < decibel[1] < decibel[2]
    assert 12 < decibel[2] < 30


def test_measured_head(test_data):
    head = MeasuredHead(
        test_data / "spatial" / "mit_kemar_normal_pinna.sofa", 16000
    )
    left, right = head.responses(direction(60))[0]
    assert np.sum(left**2) > 4 * np.sum(right**2)
    assert 3e-4 < delay_between(left, right, 16000) < 8e-4
    left, right = head.responses(direction(-60))[0]
    assert np.sum(right**2) > 4 * np.sum(left**2)
    assert -8e-4 < delay_between(left, right, 16000) < -3e-4


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "head.sofa"
    path.write_bytes(b"not a SOFA file")
    with pytest.raises(ValueError, match="head.sofa is no SOFA file"):
        MeasuredHead(path)
