"""From encoded bytes to a clip: rate, channels, level, and bad input."""

import contextlib
import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from shard_factory import encode, make_clip

from speechbrain_wavjepa.dataio.clips import (
    FILTER_SECONDS,
    choose_part,
    decode_clip,
    read_waveform,
)
from speechbrain_wavjepa.dataio.members import iterate_members
from speechbrain_wavjepa.processing import audio

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("WAVJEPA_TEST_DATA", ROOT / "../shared/data"))


def noise(seconds, rate, channels=1):
    generator = np.random.default_rng(0)
    return generator.standard_normal((round(seconds * rate), channels)) / 8


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 44101])
@pytest.mark.parametrize("policy", ["first", "mean"])
def test_equals_resampling_all_before_policy_level_and_crop(rate, policy):
    waveform = noise(1.5, rate, channels=3)
    data = encode(waveform, rate, format="WAV", subtype="FLOAT")
    expected = audio.resample(torch.from_numpy(waveform).float(), rate, 16000)[
        :16000
    ]
    if policy == "first":
        expected = expected[:, :1]
    else:
        expected = expected.mean(1, keepdim=True)
    expected = expected * 10 ** (-20 / 20) / expected.square().mean().sqrt()
    clip = decode_clip(
        data, 16000, 16000, channel_policy=policy, level_db=-20.0
    )
    assert clip.shape == (16000, 1)
    torch.testing.assert_close(clip, expected, atol=2e-6, rtol=0)


def test_short_clip_is_not_padded_and_has_its_own_level():
    clip = decode_clip(make_clip(0, seconds=0.3))
    assert clip.shape == (4800, 1)
    level = 20 * clip.square().mean().sqrt().log10()
    assert level.item() == pytest.approx(-14.0, abs=0.01)


def test_two_channels_keep_their_level_difference():
    waveform = noise(0.5, 16000, channels=2) * [1.0, 0.25]
    clip = decode_clip(encode(waveform), channels=2)
    ratio = clip[:, 0].std() / clip[:, 1].std()
    expected = waveform[:, 0].std() / waveform[:, 1].std()
    assert ratio.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "OGG", "MP3"])
def test_formats_are_known_by_their_content(kind):
    clip = decode_clip(encode(noise(1.0, 16000), format=kind))
    assert abs(len(clip) - 16000) < 1200  # MP3 pads
    assert torch.isfinite(clip).all()


def test_silence_stays_silent():
    clip = decode_clip(encode(np.zeros(1600)))
    assert clip.equal(torch.zeros(1600, 1))


def flip(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def patch_flac(data, frames=None, rate=None, channels=None):
    """Let the STREAMINFO block of a FLAC file lie."""
    header = int.from_bytes(data[18:26], "big")  # 20 + 3 + 5 + 36 bits
    if frames is not None:
        header = header >> 36 << 36 | frames
    if rate is not None:
        header = header & (1 << 44) - 1 | rate << 44
    if channels is not None:
        header = header & ~(7 << 41) | channels - 1 << 41
    return data[:18] + header.to_bytes(8, "big") + data[26:]


def patch_wav(data, channels=None, rate=None):
    channels = channels or int.from_bytes(data[22:24], "little")
    rate = int.from_bytes(data[24:28], "little") if rate is None else rate
    numbers = channels.to_bytes(2, "little") + rate.to_bytes(4, "little")
    return data[:22] + numbers + data[28:]


LONG = make_clip(0, seconds=2.0)
WAV = make_clip(0, seconds=2.0, format="WAV")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "cannot be decoded"),
        (b"text " * 100, "cannot be decoded: Format not recognised"),
        (LONG[: len(LONG) // 2], "cannot be decoded|it ends after"),
        (flip(LONG, len(LONG) // 2), "cannot be decoded: .*flac decoder"),
        (encode(np.zeros(0)), "cannot be decoded|is empty"),
        (encode(np.zeros(0), format="WAV"), "is empty"),
        (
            encode(np.full(99, np.nan), format="WAV", subtype="FLOAT"),
            "not finite or absurd",
        ),
        (
            encode(np.full(99, -np.inf), format="WAV", subtype="FLOAT"),
            "not finite or absurd",
        ),
        (
            encode(np.full(99, 1e30), format="WAV", subtype="FLOAT"),
            "not finite or absurd",
        ),
        (patch_wav(WAV, channels=1000), "claims 1000 channels, over 64"),
        (patch_wav(WAV, rate=0), "cannot be decoded|sample rate of 0 Hz"),
        (patch_wav(WAV, rate=999), "claims a sample rate of 999 Hz"),
        (patch_wav(WAV, rate=2_000_000), "sample rate of 2000000 Hz"),
        (patch_flac(LONG, frames=2**36 - 1), "it ends after 32000 of the 687"),
        (patch_flac(LONG, rate=0), "cannot be decoded|sample rate of 0 Hz"),
    ],
)
def test_bad_input_says_why(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode_clip(data)


@pytest.mark.parametrize(
    "data",
    [
        patch_flac(LONG, frames=2**36 - 1),
        patch_flac(LONG, frames=2**36 - 1, rate=655350),
        patch_flac(LONG, frames=2**36 - 1, channels=8),
        patch_wav(WAV, channels=64, rate=768_000),
        patch_wav(WAV, channels=65535, rate=2**32 - 1),
    ],
)
def test_header_that_lies_does_not_allocate(data):
    tracemalloc.start()
    with contextlib.suppress(ValueError):  # some are short clips, not bad
        decode_clip(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_header_that_lies_about_a_full_clip_is_bounded_but_read():
    clip = decode_clip(patch_flac(LONG, frames=2**36 - 1), clip_samples=16000)
    assert clip.equal(decode_clip(LONG, clip_samples=16000))


def test_stream_of_unknown_length_is_read():
    clip = decode_clip(patch_flac(LONG, frames=0))
    assert clip.equal(decode_clip(LONG))


def test_long_file_is_read_in_bounded_pieces():
    waveform = noise(40, 48000, channels=2)
    data = encode(waveform, 48000)
    tracemalloc.start()
    found, rate = read_waveform(data, max_seconds=10.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.shape, rate) == ((480000, 2), 48000)
    assert peak < 3 * found.numel() * 4 + len(data)
    expected, _ = soundfile.read(
        io.BytesIO(data), frames=480000, dtype="float32"
    )
    assert found.equal(torch.from_numpy(expected))


def ramp(length):
    """A file each of whose samples tells its place."""
    values = np.arange(length) / 2**20
    return encode(values, 8000, format="WAV", subtype="FLOAT")


@pytest.mark.parametrize("length, size", [(1000, 100), (1001, 100), (1099, 7)])
def test_passes_cover_a_long_file_with_each_part_once(length, size):
    num_parts = -(-length // size)
    for seed in (0, 1, 12345678901234567):
        starts = [
            choose_part(length, size, seed, number)
            for number in range(2 * num_parts)
        ]
        assert starts[:num_parts] == starts[num_parts:]
        covered = {n for start in starts for n in range(start, start + size)}
        assert covered == set(range(length))
        assert len(set(starts)) == num_parts
        # and few passes already come to both halves
        assert min(starts[:3]) < length / 2 - size < max(starts[:3])
    assert choose_part(length, length, 0, 3) == 0


def test_other_files_begin_with_other_parts():
    starts = {choose_part(10_000, 100, seed, 0) for seed in range(50)}
    assert len(starts) > 40


@pytest.mark.parametrize("is_path", [False, True])
def test_part_is_that_of_the_whole_file(tmp_path, is_path):
    data = ramp(10_000)
    if is_path:
        (tmp_path / "0.wav").write_bytes(data)
        data = str(tmp_path / "0.wav")
    starts = []
    for number in range(10):
        found, _ = read_waveform(data, 0.125, draw=(5, number))
        start = round(found[0, 0].item() * 2**20)
        expected = torch.arange(start, start + 1000) / 2**20
        assert found[:, 0].equal(expected)
        starts.append(start)
    assert sorted(starts) == list(range(0, 10_000, 1000))


def test_segment_is_read_and_nothing_else():
    data = ramp(10_000)
    found, _ = read_waveform(data, 10.0, start=3000, stop=4000)
    assert found[:, 0].equal(torch.arange(3000, 4000) / 2**20)
    for number in range(4):
        found, _ = read_waveform(data, 0.05, 1.0, 3000, 4000, (1, number))
        assert found[0, 0] * 2**20 in (3000, 3300, 3600)
        assert found[-1, 0] * 2**20 == 3999  # the margin ends there as well
    with pytest.raises(ValueError, match="begins at sample 10000 of 10000"):
        read_waveform(data, 1.0, start=10_000)


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_part_equals_the_resampled_part(kind, rate):
    data = encode(noise(4.0, rate), rate, format=kind)
    whole, _ = read_waveform(data, 10.0)
    for number in range(5):
        start = choose_part(len(whole), 0.8 * rate, 3, number)
        part = whole[start : start + round((0.8 + FILTER_SECONDS) * rate)]
        expected = audio.resample(part, rate, 16000)[:12800]
        found = decode_clip(data, clip_samples=12800, draw=(3, number))
        torch.testing.assert_close(
            found, audio.rms_normalize(expected, -14.0), atol=2e-6, rtol=0
        )


def test_long_recording_takes_no_memory(tmp_path):
    path = str(tmp_path / "0.wav")
    samples = np.random.default_rng(0).integers(-9999, 9999, 8_000_000)
    soundfile.write(path, samples.astype(np.int16), 8000)
    del samples
    decode_clip(path)  # makes the filter
    tracemalloc.start()
    for number in range(5):
        decode_clip(path, draw=(7, number))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20


@pytest.mark.parametrize("number", range(5))
def test_header_that_lies_about_the_length_is_damage(number):
    with pytest.raises(ValueError, match="cannot be decoded|it ends after"):
        decode_clip(patch_flac(LONG, frames=2**36 - 1), draw=(1, number))


def test_real_bad_members():
    shard = REAL / "pretrain_mini" / "shards_bad.tar"
    if not shard.is_file():
        pytest.skip(f"no real audio at {REAL}")
    lengths, bad = {}, set()
    for member in iterate_members(str(shard)):
        try:
            lengths[member.name] = len(decode_clip(member.data))
        except ValueError:
            bad.add(member.name)
    assert bad == {
        "empty.flac",
        "truncated.flac",
        "text.flac",
        "nan.wav",
        "inf.wav",
        "bitflip.flac",
    }
    assert lengths["one-sample.flac"] == 1
    assert lengths["rate-8000.flac"] == lengths["rate-96000.flac"] == 32000
    assert lengths["eight-channels.flac"] == 32000
    assert "../escape.flac" in lengths
