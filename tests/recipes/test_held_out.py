"""Which clips a run validates on."""

import json

import pytest
from shard_factory import make_clip, write_shards
from survey import _choose_files, hold_out

from speechbrain_wavjepa.dataio.shards import Segment


def touch(folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()


def held_names(folder, num_clips):
    train, valid = hold_out(str(folder), num_clips, 10.0)
    assert not set(train) & set(valid)
    assert len(set(train) | set(valid)) == len(train) + len(valid)
    return {shard.removeprefix(f"{folder}/") for shard in valid}


def test_files_are_held_out_wherever_they_lie(tmp_path):
    names = [f"speaker{n % 7}/{n:04d}.wav" for n in range(400)]
    touch(tmp_path / "clips", names)
    held = held_names(tmp_path / "clips", 70)
    assert len(held) == 70
    assert len({name.split("/")[0] for name in held}) == 7
    (tmp_path / "clips").rename(tmp_path / "moved")
    assert held_names(tmp_path / "moved", 70) == held


def test_files_that_are_added_move_few(tmp_path):
    touch(tmp_path, [f"{n}.wav" for n in range(300)])
    before = held_names(tmp_path, 50)
    touch(tmp_path, [f"new{n}.wav" for n in range(30)])
    after = held_names(tmp_path, 50)
    assert len(before - after) < 15
    assert len(after) == 50
    assert held_names(tmp_path, 60) > after


def test_segments_of_a_file_stay_together(tmp_path):
    rows = [
        f"{name}-{start},{name}.wav,{start},{start + 800}"
        for name in range(40)
        for start in range(0, 8000, 800)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["ID,wav,start,stop", *rows]))
    train, valid = hold_out(str(tmp_path / "a.csv"), 32, 10.0)
    assert len(valid) == 40
    assert not {s.path for s in train} & {s.path for s in valid}


def test_long_recordings_give_several_clips(tmp_path):
    for number in range(6):
        data = make_clip(number, seconds=2.0, format="WAV")
        (tmp_path / f"{number}.wav").write_bytes(data)
    train, valid = hold_out(str(tmp_path), 20, clip_seconds=0.1)
    assert (len(train), len(valid)) == (4, 32)
    assert not set(train) & {segment.path for segment in valid}
    for path in {segment.path for segment in valid}:
        parts = [s for s in valid if s.path == path]
        assert [s.start for s in parts] == [n * 30400 // 15 for n in range(16)]
        assert {s.stop - s.start for s in parts} == {1600}
    train, valid = hold_out(str(tmp_path), 3, clip_seconds=0.9)
    assert (len(train), len(valid)) == (4, 4)  # two from each, no overlap
    assert (valid[0].stop, valid[1].start) == (14400, 17600)
    whole = hold_out(str(tmp_path), 3, clip_seconds=1.1)[1]
    assert all(isinstance(shard, str) for shard in whole)
    with pytest.raises(ValueError, match="6 clips in 6 files are too few"):
        hold_out(str(tmp_path), 49, clip_seconds=0.1)


@pytest.mark.parametrize("num_clips", [6, 10, 11])
def test_too_few_files(tmp_path, num_clips):
    touch(tmp_path, [f"{n}.wav" for n in range(10)])
    with pytest.raises(
        ValueError,
        match=f"10 clips in 10 files are too few to hold out num_valid_clips="
        f"{num_clips} .*smaller num_valid_clips, .*valid_shards",
    ):
        hold_out(str(tmp_path), num_clips, 10.0)
    assert len(held_names(tmp_path, 5)) == 5


@pytest.mark.parametrize("num_clips", [0, -1, 0.5, None, True])
def test_number_that_is_none(tmp_path, num_clips):
    touch(tmp_path, ["0.wav", "1.wav"])
    with pytest.raises(ValueError, match="num_valid_clips must be"):
        hold_out(str(tmp_path), num_clips, 10.0)


@pytest.mark.parametrize("counted", [False, True])
def test_last_shards_that_hold_as_many(tmp_path, counted):
    write_shards(tmp_path, [5, 5, 5, 5, 5, 3])
    if counted:
        entry = {"bytes": 1, "sha256": ""}
        entries = {
            f"shard-{number:06d}.tar": {"clips": 50, **entry}
            for number in range(6)
        }
        manifest = tmp_path / "manifest.json"
        manifest.write_text(json.dumps({"shards": entries}))
    for num_clips, expected in ((1, 1), (3, 1), (4, 2), (8, 2), (9, 3)):
        train, valid = hold_out(str(tmp_path), num_clips, 10.0)
        expected = 1 if counted else expected
        assert len(valid) == expected
        assert sorted(train + valid) == train + valid
        assert len(train) == 6 - expected
    message = "The last 3 of 6 shards hold 13 clips, too few .*=14: .*smaller"
    if not counted:
        with pytest.raises(ValueError, match=message):
            hold_out(str(tmp_path), 14, 10.0)


def test_one_shard_and_remote_shards(tmp_path):
    write_shards(tmp_path, [50])
    with pytest.raises(ValueError, match="One shard cannot be split"):
        hold_out(str(tmp_path), 1, 10.0)
    train, valid = hold_out("https://example.org/{0..9}.tar", 1000, 10.0)
    assert valid == ["https://example.org/9.tar"]
    assert len(train) == 9


def test_a_file_of_too_many_segments_is_passed_over():
    for order in ([20, 20, 60], [20, 60, 20], [60, 20, 20]):
        shards = [
            Segment(f"{name}.wav", 100 * part, 100 * part + 100)
            for name, count in zip("abc", order)
            for part in range(count)
        ]
        train, valid = _choose_files(
            [(shard, shard.path) for shard in shards], 10, 1.0
        )
        assert 2 * len(valid) <= len(train) + len(valid)
        assert not {s.path for s in train} & {s.path for s in valid}
