"""Noises: recordings of a folder, good and bad, and synthetic ones."""

import os
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.augment import NoiseFolder, SyntheticNoises
from speechbrain_wavjepa.dataio.clips import decode_clip


def test_noises_are_brought_to_the_rate(tmp_path):
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 440 * time)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "tone.wav"
    soundfile.write(path, np.stack([tone, 0 * tone], axis=1), 8000)
    noise = NoiseFolder(tmp_path, 16000)[0]
    assert noise.shape == (16000,)
    spectrum = torch.fft.rfft(noise).abs()
    assert int(spectrum.argmax()) == 440


def test_silent_and_broken_noises_are_named(tmp_path):
    soundfile.write(tmp_path / "a_silent.wav", np.zeros(800), 16000)
    (tmp_path / "b_broken.wav").write_bytes(b"RIFF, not really")
    noises = NoiseFolder(tmp_path)
    with pytest.raises(ValueError, match="a_silent.wav is silent"):
        noises[0]
    with pytest.raises(ValueError, match="b_broken.wav cannot be used"):
        noises[1]


def test_a_missing_noise_folder_names_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="noise_folder"):
        NoiseFolder(tmp_path / "nowhere")


def test_a_long_noise_is_heard_in_all_parts(tmp_path):
    """Three minutes, each of another frequency."""
    rate = 1000
    time = np.arange(60 * rate) / rate
    minutes = [np.sin(2 * np.pi * f * time) for f in (50, 150, 250)]
    for suffix in ("wav", "flac", "ogg"):
        path = tmp_path / f"long.{suffix}"
        soundfile.write(path, np.concatenate(minutes), rate)
        noises = NoiseFolder(tmp_path, rate)
        heard = set()
        for index in (0, len(noises) // 2, len(noises) - 1):
            noise = noises[index]
            assert noise.shape == (60000,)
            heard.add(int(torch.fft.rfft(noise).abs().argmax()) // 60)
        assert heard == {50, 150, 250}
        path.unlink()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_noise_is_a_clip_of_the_stream(suffix, tmp_path):
    """Rate, channel and level are those of every other clip."""
    random = np.random.default_rng(0)
    path = tmp_path / f"0.{suffix}"
    soundfile.write(path, 0.1 * random.standard_normal((30000, 2)), 44100)
    clip = decode_clip(path.read_bytes(), 16000, 60 * 16000)
    assert torch.equal(NoiseFolder(tmp_path)[0], clip[:, 0])


def test_odd_files_of_a_noise_folder_neither_block_nor_vanish(tmp_path):
    names = ["-rf.wav", "{0..9}*[a].wav", "new\nline.wav"]
    for name in names:
        soundfile.write(tmp_path / name, np.ones(800) / 9, 16000)
    bad_name = os.fsencode(tmp_path) + b"/\xff.wav"
    with open(bad_name, "wb") as file:
        file.write((tmp_path / names[0]).read_bytes())
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dangling.wav").symlink_to("nowhere")
    (tmp_path / "endless.wav").symlink_to("/dev/zero")
    noises = NoiseFolder(tmp_path)
    assert len(noises.files) == len(names) + 1
    assert all(len(noises[number]) == 800 for number in range(4))


def test_a_noise_of_many_gigabytes_is_read_in_part(tmp_path):
    path = tmp_path / "huge.wav"
    soundfile.write(path, np.ones((800, 2)) / 9, 16000, subtype="FLOAT")
    size = 3 * 2**30
    with open(path, "r+b") as file:
        data = file.read()
        place = data.index(b"data")
        file.seek(4)
        file.write((size - 8).to_bytes(4, "little"))
        file.seek(place + 4)
        file.write((size - place - 8).to_bytes(4, "little"))
        file.truncate(size)  # a hole: takes no room on the disk
    tracemalloc.start()
    noises = NoiseFolder(tmp_path)
    assert noises[0].shape == (60 * 16000,)
    with pytest.raises(ValueError, match="silent"):
        noises[len(noises) - 1]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**28


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
