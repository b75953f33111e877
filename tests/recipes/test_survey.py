"""How much sound there is, told without decoding it."""

import json

import pytest
import survey
from shard_factory import make_clip, write_shards
from survey import Survey, survey_shards

from speechbrain_wavjepa.dataio import expand_shards
from speechbrain_wavjepa.dataio.shards import Segment


def write_files(folder, lengths):
    for number, seconds in enumerate(lengths):
        data = make_clip(number, seconds, format="WAV")
        (folder / f"{number:04d}.wav").write_bytes(data)
    return expand_shards(str(folder))


def test_files_are_measured(tmp_path):
    shards = write_files(tmp_path, [0.5, 1.0, 4.5])
    found = survey_shards(shards, clip_seconds=1.0)
    assert found == Survey(3, 3, 6.0, 2.5, is_exact=True)
    segments = [Segment(shards[2], 0, 8000), Segment(shards[2], 16000, None)]
    found = survey_shards(segments, clip_seconds=1.0)
    assert found == Survey(1, 2, 4.0, 1.5, is_exact=True)


def test_of_many_files_some_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "MAX_FILES", 10)
    opened = []
    measure = survey.measure_clip
    monkeypatch.setattr(
        survey, "measure_clip", lambda clip: opened.append(0) or measure(clip)
    )
    shards = write_files(tmp_path, [0.1, 0.3] * 50)
    found = survey_shards(shards, clip_seconds=1.0)
    assert len(opened) <= 10
    assert found.num_clips == 100
    assert not found.is_exact
    assert 11 < found.seconds < 29
    assert str(found).startswith("100 clips in 100 files, about 0.")


def test_what_is_printed():
    assert str(Survey(20, 20, 72000.0, 200.0, True)) == (
        "20 clips in 20 files, 20.0 hours; a pass takes 3.3 minutes, another "
        "part of each long clip"
    )
    assert str(Survey(2, 400, 3600.0, 3600.0, False)) == (
        "400 clips in 2 files, about 1.0 hours"
    )
    assert str(Survey(9, None, None, None, False)) == (
        "clips not counted in 9 files, hours unknown"
    )


def test_shards_are_measured_by_manifest_and_first_clip(tmp_path, monkeypatch):
    write_shards(tmp_path, [3, 3], seconds=2.0)
    shards = expand_shards(str(tmp_path))
    counted = survey_shards(shards, clip_seconds=1.0)
    assert counted == Survey(2, 6, 12.0, 6.0, is_exact=True)
    monkeypatch.setattr(survey, "MAX_TIME", -1.0)
    unknown = survey_shards(shards, clip_seconds=1.0)
    assert unknown == Survey(2, None, None, None, False)
    monkeypatch.setattr(survey, "MAX_LOOKS", 1)
    entries = {
        f"shard-00000{n}.tar": {
            "clips": 3,
            "bytes": 1,
            "sha256": "",
            "seconds": 7.0,
        }
        for n in range(2)
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"shards": entries}))
    found = survey_shards(shards, clip_seconds=1.0)
    assert found == Survey(2, 6, 14.0, 6.0, is_exact=False)


def test_remote_shards_are_not_asked():
    found = survey_shards(["https://example.invalid/0.tar"], 1.0)
    assert found == Survey(1, None, None, None, False)


def test_nothing_that_can_be_read_is_refused(tmp_path):
    (tmp_path / "0.wav").write_bytes(b"text")
    (tmp_path / "1.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="None of the 2 audio files .*0.wav"):
        survey_shards(expand_shards(str(tmp_path)), 1.0)
    (tmp_path / "2.wav").write_bytes(make_clip(0, 1.0, format="WAV"))
    found = survey_shards(expand_shards(str(tmp_path)), 1.0)
    assert (found.num_clips, found.is_exact) == (3, False)
    gone = [str(tmp_path / "gone.wav")]
    with pytest.raises(ValueError, match="None of the 1 audio files"):
        survey_shards(gone, 1.0)
