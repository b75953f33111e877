"""Heads: delays and levels at the ears, by direction."""

import os

import h5py
import numpy as np
import pytest

from speechbrain_wavjepa.augment.hrtf import (
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


def write_sofa(path, **changes):
    """Write a SOFA file of three directions; None leaves something out."""
    random = np.random.default_rng(0)
    content = {
        "SourcePosition": np.array([[0.0, 0, 1], [90, 0, 1], [0, 90, 1]]),
        "Data.IR": random.standard_normal((3, 2, 64)),
        "Data.SamplingRate": np.array([44100.0]),
        "Type": "spherical",
        **changes,
    }
    kind = content.pop("Type")
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if isinstance(value, dict):
                file.create_dataset(name, **value)
            elif value is not None:
                file[name] = value
        if kind is not None and isinstance(
            file.get("SourcePosition"), h5py.Dataset
        ):
            file["SourcePosition"].attrs["Type"] = kind


@pytest.mark.parametrize("kind", ["spherical", b"spherical", None])
def test_a_written_head_is_read(kind, tmp_path):
    write_sofa(tmp_path / "a.sofa", Type=kind)
    responses = MeasuredHead(tmp_path / "a.sofa").responses(direction(88))
    assert responses.shape == (1, 2, 24)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"Data.IR": None}, "Data.IR"),
        ({"Data.IR": "text"}, "Data.IR is object"),
        ({"Data.IR": {"shape": (10**9, 2, 10**6), "dtype": "f8"}}, "at most"),
        (
            {
                "Data.IR": {
                    "shape": (3, 2, 64),
                    "dtype": "f8",
                    "maxshape": (None, 2, None),
                    "chunks": (2**14, 1, 2**14),
                }
            },
            "at most",
        ),
        ({"Data.IR": np.full((3, 2, 64), np.nan)}, "not finite"),
        ({"Data.IR": np.zeros((3, 2, 64))}, "is silent"),
        ({"Data.IR": np.ones((3, 4, 64))}, r"responses \[3, 4, 64\]"),
        ({"Data.IR": np.ones((2, 2, 64))}, "place for each"),
        ({"Data.IR": np.ones(64)}, r"responses \[64\]"),
        ({"Data.IR": h5py.SoftLink("/Data.IR")}, "no dataset of this file"),
        ({"Data.IR": h5py.ExternalLink("x.h5", "/a")}, "no dataset of this"),
        ({"Data.SamplingRate": np.zeros(1)}, "its rate"),
        ({"Data.SamplingRate": np.zeros(0)}, "its rate"),
        ({"Data.SamplingRate": np.array([1e300])}, "its rate"),
        ({"Data.SamplingRate": np.array([44100.5])}, "its rate"),
        ({"SourcePosition": np.ones((3, 1))}, "spherical place"),
        ({"SourcePosition": np.ones(3)}, "spherical place"),
        ({"Type": "cartesian"}, "cartesian places"),
        ({"Data.Delay": np.array([[0.0, 9.0]])}, "delays stand apart"),
        ({"Type": b"\xff\xfe"}, "places"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_head_that_cannot_be_used_is_named(changes, message, tmp_path):
    path = tmp_path / "head.sofa"
    write_sofa(path, **changes)
    with pytest.raises(ValueError, match=f"head.sofa (?s:.*){message}"):
        MeasuredHead(path)


def test_a_head_of_another_file_is_not_read(tmp_path):
    """Raw data and links that lead out, the latter to a pipe that blocks."""
    outside = tmp_path / "precious"
    outside.write_bytes(bytes(3 * 2 * 64 * 8))
    external = {
        "shape": (3, 2, 64),
        "dtype": "f8",
        "external": [(str(outside), 0, h5py.h5f.UNLIMITED)],
    }
    os.mkfifo(tmp_path / "pipe")
    for change in (external, h5py.ExternalLink(tmp_path / "pipe", "/a")):
        write_sofa(tmp_path / "head.sofa", **{"Data.IR": change})
        with pytest.raises(ValueError, match="no dataset of this file"):
            MeasuredHead(tmp_path / "head.sofa")
    with pytest.raises(ValueError, match="pipe is not there"):
        MeasuredHead(tmp_path / "pipe")


def test_a_cut_head_is_named(test_data, tmp_path):
    whole = test_data / "spatial" / "mit_kemar_normal_pinna.sofa"
    path = tmp_path / "head.sofa"
    for size in (100, 5000, 500000):
        path.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(ValueError, match="head.sofa is no SOFA file"):
            MeasuredHead(path)
