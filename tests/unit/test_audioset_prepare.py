"""Shards out of a folder of clips: the same bytes, resumed, checked."""

import hashlib
import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from shard_factory import encode, make_clip

from speechbrain_wavjepa.data import shard_writer
from speechbrain_wavjepa.data.members import iterate_members
from speechbrain_wavjepa.data.shard_check import ClipPool
from speechbrain_wavjepa.shards import ClipStream

RECIPE = Path(__file__).parents[2] / "recipes" / "AudioSet" / "WavJEPA"


@pytest.fixture
def prepare(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    import audioset_prepare

    return audioset_prepare


def write_clips(folder):
    """Write ten files, eight of which can be read; give those eight keys."""
    clips = {
        "a/0.flac": make_clip(0),
        "a/1.wav": make_clip(1, format="WAV"),
        "a/b/2.ogg": make_clip(2, seconds=0.5, format="OGG"),
        "a/b/3.mp3": make_clip(3, seconds=0.5, format="MP3"),
        "c/4.flac": make_clip(4, rate=44100, channels=2),
        "c/5.x.flac": make_clip(5),
        "c/6.FLAC": make_clip(6),
        "d.wav": make_clip(7, format="WAV", subtype="FLOAT"),
        "c/bad.flac": b"text",
        "c/nan.wav": encode(np.full(9, np.nan), format="WAV", subtype="FLOAT"),
        "c/notes.txt": b"no clip",
    }
    for name, data in clips.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return ["a/0", "a/1", "a/b/2", "a/b/3", "c/4", "c/5_x", "c/6", "d"]


def arguments(tmp_path, output="out", **options):
    options = {
        "input": tmp_path / "in",
        "output": tmp_path / output,
        "clips_per_shard": 3,
        "num_workers": 0,
        **options,
    }
    return [text for k, v in options.items() for text in (f"--{k}", str(v))]


def read_shards(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_shards_hold_all_readable_clips_in_order(prepare, tmp_path, capsys):
    keys = write_clips(tmp_path / "in")
    assert prepare.main(arguments(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "8 clips in 3 shards" in printed
    assert "2 clips left out" in printed
    assert "Left out c/bad.flac: it cannot be decoded" in printed
    found = []
    for number, count in enumerate([3, 3, 2]):
        path = tmp_path / "out" / f"shard-{number:06d}.tar"
        with tarfile.open(path) as tar:
            names = tar.getnames()
            headers = tar.getmembers()
        assert len(names) == 2 * count
        for flac, about in zip(names[0::2], names[1::2], strict=True):
            assert flac.removesuffix(".flac") == about.removesuffix(".json")
            found.append(flac.removesuffix(".flac"))
        assert {header.mtime for header in headers} == {0}
    assert found == keys
    assert not list((tmp_path / "out").glob("*.part"))
    clips = list(ClipStream(str(tmp_path / "out"), passes=1))
    assert len(clips) == 8


def test_manifest_has_counts_and_hashes(prepare, tmp_path):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    shards = read_shards(tmp_path / "out")
    assert set(manifest["shards"]) == set(shards)
    for name, entry in manifest["shards"].items():
        assert entry["bytes"] == len(shards[name])
        assert entry["sha256"] == hashlib.sha256(shards[name]).hexdigest()
    assert [e["clips"] for e in manifest["shards"].values()] == [3, 3, 2]
    assert set(manifest["unreadable"]) == {"c/bad.flac", "c/nan.wav"}
    assert manifest["settings"]["clips_per_shard"] == 3


def test_flac_is_copied_and_integers_stay_what_they_are(prepare, tmp_path):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path, clips_per_shard=99))
    members = {
        member.name: member.data
        for member in iterate_members(str(tmp_path / "out/shard-000000.tar"))
    }
    assert members["a/0.flac"] == make_clip(0)
    assert members["c/4.flac"] == make_clip(4, rate=44100, channels=2)
    found, _ = soundfile.read(io.BytesIO(members["a/1.flac"]), dtype="int16")
    wav = io.BytesIO(make_clip(1, format="WAV"))
    expected, _ = soundfile.read(wav, dtype="int16")
    assert np.array_equal(found, expected)
    assert soundfile.info(io.BytesIO(members["d.flac"])).subtype == "PCM_24"


def test_resampling_when_asked_for(prepare, tmp_path):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path, sample_rate=8000, clips_per_shard=99))
    with tarfile.open(tmp_path / "out/shard-000000.tar") as tar:
        about = json.load(tar.extractfile("c/4.json"))
        info = soundfile.info(tar.extractfile("c/4.flac"))
    assert (info.samplerate, info.channels, info.frames) == (8000, 2, 800)
    assert about == {
        "key": "c/4",
        "source": "c/4.flac",
        "sample_rate": 8000,
        "channels": 2,
        "num_samples": 800,
    }


def test_stopped_run_goes_on_to_the_same_bytes(
    prepare, tmp_path, monkeypatch, capsys
):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path, output="whole"))
    encoded = []
    encode_clip = prepare.encode_clip

    def stop_at_the_sixth(folder, sample_rate, clip):
        encoded.append(clip)
        if len(encoded) == 6:
            raise OSError(28, "No space left on device")
        return encode_clip(folder, sample_rate, clip)

    monkeypatch.setattr(prepare, "encode_clip", stop_at_the_sixth)
    assert prepare.main(arguments(tmp_path)) == 1
    error = capsys.readouterr().err
    assert "No space left on device. Finished shards are kept" in error
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["manifest.json", "shard-000000.tar"]
    first = tmp_path / "out" / "shard-000000.tar"
    made = first.stat().st_mtime_ns
    encoded[:] = [None] * 6  # from now on nothing stops it
    assert prepare.main(arguments(tmp_path)) == 0
    assert first.stat().st_mtime_ns == made
    assert [clip for clip in encoded[6:] if clip[0].startswith("a/0")] == []
    assert read_shards(tmp_path / "out") == read_shards(tmp_path / "whole")
    manifests = [tmp_path / o / "manifest.json" for o in ("out", "whole")]
    assert manifests[0].read_text() == manifests[1].read_text()


def test_damaged_shard_is_found_and_made_again(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path))
    whole = read_shards(tmp_path / "out")
    check = ["--check", str(tmp_path / "out"), "--num_workers", "0"]
    capsys.readouterr()
    assert prepare.main(check) == 0
    assert capsys.readouterr().out.strip() == (
        "3 shards, 0 of them bad, 8 clips can be read"
    )
    middle = tmp_path / "out" / "shard-000001.tar"
    data = bytearray(whole[middle.name])
    data[700] ^= 0xFF  # in the first clip
    middle.write_bytes(data)
    (tmp_path / "out" / "shard-000002.tar").unlink()
    assert prepare.main(check) == 1
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 3
    assert "shard-000001.tar: its sha256 is not that of the mani" in lines[0]
    assert "it cannot be decoded" in lines[0]
    assert "2 of 3 clips can be read" in lines[0]
    assert "shard-000002.tar: it is missing" in lines[1]
    assert prepare.main(arguments(tmp_path)) == 0
    assert read_shards(tmp_path / "out") == whole


def test_worker_processes_give_the_same_bytes(prepare, tmp_path):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path))
    prepare.main(arguments(tmp_path, output="parallel", num_workers=2))
    shards = read_shards(tmp_path / "out")
    assert shards == read_shards(tmp_path / "parallel")
    assert len(shards) == 3


def test_a_killed_worker_is_an_error_and_not_waited_for():
    """As the memory limit kills; a pool of the old kind waited for ever."""
    with pytest.raises(ChildProcessError, match="lower --num_workers"):
        with ClipPool(1) as pool:
            list(pool.imap(os._exit, [9]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input": "nowhere"}, "--input nowhere is no folder"),
        ({"clips_per_shard": 0}, "--clips_per_shard must be 1 or more, got 0"),
        ({"sample_rate": 0}, "--sample_rate must lie .* got 0; leave it out"),
        ({"num_workers": -1}, "--num_workers must be 0 or more, got -1"),
    ],
)
def test_wrong_options_get_one_message(
    prepare, tmp_path, capsys, options, message
):
    write_clips(tmp_path / "in")
    assert prepare.main(arguments(tmp_path, **options)) == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert not list(tmp_path.glob("out/*.tar"))


def test_changed_settings_or_input_are_refused(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path))
    whole = read_shards(tmp_path / "out")
    assert prepare.main(arguments(tmp_path, clips_per_shard=4)) == 1
    assert "begun with clips_per_shard=3, and now it is 4" in (
        capsys.readouterr().err
    )
    (tmp_path / "in" / "new.flac").write_bytes(make_clip(9))
    assert prepare.main(arguments(tmp_path)) == 1
    assert "begun with num_files=10, and now it is 11" in (
        capsys.readouterr().err
    )
    assert read_shards(tmp_path / "out") == whole


def test_folder_of_other_shards_is_left_alone(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shard-000000.tar").write_bytes(b"mine")
    assert prepare.main(arguments(tmp_path)) == 1
    assert "tar files but no manifest" in capsys.readouterr().err
    assert read_shards(tmp_path / "out") == {"shard-000000.tar": b"mine"}


def test_two_clips_of_one_key(prepare, tmp_path, capsys):
    for name in ("0.flac", "0.wav"):
        write = tmp_path / "in" / name
        write.parent.mkdir(exist_ok=True)
        write.write_bytes(make_clip(0))
    assert prepare.main(arguments(tmp_path)) == 1
    assert "0.flac and 0.wav in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_readable_is_a_failure(prepare, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.flac").write_bytes(b"text")
    assert prepare.main(arguments(tmp_path)) == 1
    assert "0 clips in 0 shards" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_failing_flush_leaves_no_shard(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        shard_writer.write_shard(
            tmp_path / "0.tar", [("0", make_clip(0), {"key": "0"})]
        )
    assert list(tmp_path.iterdir()) == []
