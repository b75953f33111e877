"""Shards out of a folder of clips: the same bytes, resumed, checked."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import shard_check
import soundfile
from shard_check import clip_pool
from shard_factory import encode, make_clip

from speechbrain_wavjepa.dataio import ClipStream
from speechbrain_wavjepa.dataio import writer as shard_writer
from speechbrain_wavjepa.dataio.members import iterate_members
from speechbrain_wavjepa.dataio.shards import printable

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
    assert not list((tmp_path / "out").glob(".*"))
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
    seconds = [entry["seconds"] for entry in manifest["shards"].values()]
    assert seconds == pytest.approx([0.7, 0.7, 0.2], abs=0.1)  # MP3 pads
    assert set(manifest["unreadable"]) == {"c/bad.flac", "c/nan.wav"}


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
    assert files == ["made_with.json", "manifest.json", "shard-000000.tar"]
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
        with clip_pool(1) as mapping:
            list(mapping(os._exit, [9]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input": "nowhere"}, "--input nowhere is no folder"),
        ({"clips_per_shard": 0}, "--clips_per_shard must be 1 or more, got 0"),
        ({"sample_rate": 0}, "--sample_rate must lie .* got 0; leave it out"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
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
    message = "made with clips_per_shard=3, not clips_per_shard=4"
    assert message in capsys.readouterr().err
    (tmp_path / "in" / "new.flac").write_bytes(make_clip(9))
    assert prepare.main(arguments(tmp_path)) == 1
    message = r"made with .*num_files=10, not .*num_files=11"
    assert re.search(message, capsys.readouterr().err)
    assert read_shards(tmp_path / "out") == whole


def test_folder_of_other_shards_is_left_alone(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shard-000000.tar").write_bytes(b"mine")
    assert prepare.main(arguments(tmp_path)) == 1
    assert "holds something else (shard-000000.tar)" in capsys.readouterr().err
    assert read_shards(tmp_path / "out") == {"shard-000000.tar": b"mine"}


def test_default_makes_shards_enough_for_a_small_folder(prepare, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / "in" / f"{number}.flac").write_bytes(make_clip(number))
    prepare.prepare_audioset(tmp_path / "in", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    counts = [entry["clips"] for entry in manifest["shards"].values()]
    assert counts == [3] * 13 + [1]
    made_with = json.loads((tmp_path / "out" / "made_with.json").read_text())
    assert made_with["clips_per_shard"] == 3


ODD_NAMES = {
    "a*b[c]{0..3}.flac": "",
    "-a.flac": "",
    "x" * 200 + ".flac": "",
    "a\udcffb.flac": "",
    "a\nb.flac": "cannot be a name in",
    "back\\slash.flac": "cannot be a name in",
    "pipe.wav": "it is no regular file",
    "gone.wav": "No such file",
    "self.wav": "Too many levels of symbolic links",
}


def test_odd_names_are_packed_or_listed(prepare, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, reason in ODD_NAMES.items():
        if "cannot be" in reason or not reason:
            (folder / name).write_bytes(make_clip(0))
    os.mkfifo(folder / "pipe.wav")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "self.wav").symlink_to(folder / "self.wav")
    (folder / "circle").symlink_to(folder)
    assert prepare.main(arguments(tmp_path, clips_per_shard=99)) == 0
    printed = capsys.readouterr().out
    printed.encode()
    lost = {name: reason for name, reason in ODD_NAMES.items() if reason}
    for name, reason in lost.items():
        assert re.search(rf"Left out {re.escape(printable(name))}: .*{reason}",
                         printed), name  # fmt: skip
    members = list(iterate_members(str(tmp_path / "out/shard-000000.tar")))
    assert len(members) == len(ODD_NAMES) - len(lost)
    assert all(member.data == make_clip(0) for member in members)
    assert prepare.main(arguments(tmp_path, clips_per_shard=99)) == 0


def test_other_manifests_are_left_alone(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    (tmp_path / "out").mkdir()
    manifest = tmp_path / "out" / "manifest.json"
    for text in ("mine", '{"shards": {}}', '{"shards": {}, "settings": {}}'):
        manifest.write_text(text)
        assert prepare.main(arguments(tmp_path)) == 1
        assert re.search("choose another .*folder", capsys.readouterr().err)
        assert manifest.read_text() == text
    assert not list(tmp_path.glob("out/*.tar"))


def test_two_at_once_are_refused(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    code = (
        "import sys\nfrom speechbrain_wavjepa.utils.files import hold\n"
        "with hold(sys.argv[1]):\n    print('held', flush=True)\n    input()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        other.stdout.readline()
        assert prepare.main(arguments(tmp_path)) == 1
        assert f"is in use by process {other.pid}" in capsys.readouterr().err
        other.communicate(b"\n")
    assert prepare.main(arguments(tmp_path)) == 0


def test_long_and_huge_files_are_listed(prepare, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for number, seconds in enumerate((0.1, 1.5)):
        data = make_clip(number, seconds)
        (tmp_path / "in" / f"{number}.flac").write_bytes(data)
    monkeypatch.setattr(shard_check, "MAX_SECONDS", 1)
    manifest = prepare.prepare_audioset(tmp_path / "in", tmp_path / "out")
    assert "longer than 1 s: cut it" in manifest["unreadable"]["1.flac"]
    monkeypatch.undo()
    # what a header claims is not allocated
    monkeypatch.setattr(shard_check, "MAX_VALUES", 16000)
    manifest = prepare.prepare_audioset(tmp_path / "in", tmp_path / "new")
    assert list(manifest["unreadable"]) == ["1.flac"]


def test_check_tells_of_a_manifest_that_is_damaged(prepare, tmp_path, capsys):
    write_clips(tmp_path / "in")
    prepare.main(arguments(tmp_path))
    (tmp_path / "out" / "manifest.json").write_text('{"shards": {"0.tar"')
    capsys.readouterr()
    assert prepare.main(["--check", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "manifest.json is none of audioset_prepare.py, or damaged" in printed
    entry = {"clips": 1, "bytes": 1, "sha256": ""}
    for name in ("../0.tar", "/etc/0.tar"):
        manifest = {"shards": {name: entry}}
        (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
        assert prepare.main(["--check", str(tmp_path / "out")]) == 1
        assert (
            f"The name '{name}' cannot be a name in" in capsys.readouterr().err
        )


def test_check_reads_long_recordings_to_the_end(prepare, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    samples = np.zeros(8000 * 700)
    soundfile.write(folder / "long.flac", samples, 8000)
    check = ["--num_workers", "0", "--check", str(folder)]
    assert prepare.main(check) == 0
    samples[-1] = np.nan
    soundfile.write(folder / "nan.wav", samples, 8000, "FLOAT")
    assert prepare.main(check) == 1
    assert "nan.wav: it holds values that are not finite" in (
        capsys.readouterr().out
    )


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
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["made_with.json", "manifest.json"]


@pytest.mark.parametrize("key", ["../0", "/etc/0", "a/../../0", "a\nb", ""])
def test_keys_that_climb_are_not_written(tmp_path, key):
    clips = [("0", make_clip(0), {}), (key, make_clip(0), {})]
    with pytest.raises(ValueError, match="cannot be a name in"):
        shard_writer.write_shard(tmp_path / "0.tar", clips)
    assert list(tmp_path.iterdir()) == []


def test_failing_flush_leaves_no_shard(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        shard_writer.write_shard(
            tmp_path / "0.tar", [("0", make_clip(0), {"key": "0"})]
        )
    assert list(tmp_path.iterdir()) == []
