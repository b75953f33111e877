"""ClipStream: every clip once in a pass, in an order that can be resumed."""

import logging
import os
from pathlib import Path

import pytest
from shard_factory import make_clip, write_shards, write_tar
from survey import survey_shards
from torch.utils.data import DataLoader

from speechbrain_wavjepa.dataio import ClipCollator, ClipStream

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("WAVJEPA_TEST_DATA", ROOT / "../shared/data"))


def names(clips):
    return [clip.key.split("::")[1] for clip in clips]


def make_loader(stream, num_workers=0, batch_size=4):
    collator = ClipCollator(
        None, 1, window_samples=1600, clip_samples=1600, seed=3
    )
    return DataLoader(
        stream, batch_size, collate_fn=collator, num_workers=num_workers
    )


def test_two_processes_of_three_workers_share_a_pass(tmp_path):
    expected = write_shards(tmp_path, [3, 1, 4, 2, 5, 2, 3, 1])
    found = []
    for rank in range(2):
        stream = ClipStream(
            str(tmp_path),
            passes=1,
            shuffle_buffer=2,
            rank=rank,
            world_size=2,
            clip_seconds=0.1,
        )
        part = []
        for batch in make_loader(stream, num_workers=3):
            part.extend(key.split("::")[1] for key in batch.keys)
        assert 0 < len(part) < len(expected)
        found.extend(part)
    assert len(found) == len(expected)
    assert sorted(found) == sorted(expected)


def test_passes_are_complete_and_in_different_orders(tmp_path):
    expected = write_shards(tmp_path, [4, 4, 4])
    stream = ClipStream(str(tmp_path), passes=3, shuffle_buffer=5)
    clips = list(stream)
    passes = [names(clips[start : start + 12]) for start in (0, 12, 24)]
    assert all(sorted(order) == sorted(expected) for order in passes)
    assert len({tuple(order) for order in passes}) == 3
    assert names(list(stream)) == names(clips)
    other = ClipStream(str(tmp_path), passes=3, shuffle_buffer=5, seed=1)
    assert names(other) != names(clips)


def test_blocks_shuffle_across_shards_but_not_without_shuffle(tmp_path):
    expected = write_shards(tmp_path, [1, 1, 1, 1, 1, 1, 1, 1])
    plain = ClipStream(str(tmp_path), passes=2, shuffle=False)
    assert names(plain) == expected * 2
    one = ClipStream(str(tmp_path), passes=1, shuffle_buffer=1)
    all_of_them = ClipStream(str(tmp_path), passes=1, shuffle_buffer=8)
    assert names(one) != names(all_of_them)


@pytest.mark.parametrize("used", range(1, 24))
def test_resume_from_any_clip(tmp_path, used):
    write_shards(tmp_path, [3, 1, 4, 2])  # blocks cross the shards' borders
    stream = ClipStream(str(tmp_path), passes=3, shuffle_buffer=4)
    clips = list(stream)
    fresh = ClipStream(str(tmp_path), passes=3, shuffle_buffer=4)
    fresh.advance(clips[used - 1].position)
    rest = list(fresh)
    assert len(rest) == 30 - used
    for clip, other in zip(clips[used:], rest, strict=True):
        assert clip.key == other.key
        assert clip.position == other.position
        assert clip.waveform.equal(other.waveform)


def test_too_few_shards_are_told_with_both_numbers(tmp_path):
    write_shards(tmp_path, [1, 1, 1, 1, 1])
    stream = ClipStream(str(tmp_path), passes=1, rank=1, world_size=2)
    message = r"5 shards .* 2 processes x 3 workers = 6: lower num_workers"
    with pytest.raises(ValueError, match=message):
        stream.check_split(3)
    stream.check_split(2)
    crowded = ClipStream(str(tmp_path), rank=0, world_size=6)
    with pytest.raises(ValueError, match="5 shards .* 6 processes x 1 work"):
        next(iter(crowded))


def test_torchrun_gives_rank_and_world_size(tmp_path, monkeypatch):
    write_shards(tmp_path, [1, 1])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    stream = ClipStream(str(tmp_path))
    assert (stream.rank, stream.world_size) == (1, 2)
    with pytest.raises(ValueError, match="rank=2 must lie below world_size=2"):
        ClipStream(str(tmp_path), rank=2)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"sample_rate": 0}, "sample_rate must lie between 1 .* got 0"),
        ({"clip_seconds": -1}, "clip_seconds must lie .* got -1"),
        ({"channels": 0}, "channels must lie between 1"),
        ({"channel_policy": "last"}, "channel_policy .* got 'last'"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must lie between 1"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction must lie .* got 1.5"),
    ],
)
def test_settings_out_of_range(tmp_path, setting, message):
    write_shards(tmp_path, [1])
    with pytest.raises(ValueError, match=message):
        ClipStream(str(tmp_path), **setting)


def test_empty_shards_are_listed_before_training(tmp_path):
    write_shards(tmp_path, [1, 1, 1, 1])
    for number in (1, 2):
        (tmp_path / f"shard-00000{number}.tar").write_bytes(b"")
    stream = ClipStream(str(tmp_path), passes=1)
    with pytest.raises(ValueError, match="000001.tar .*\n.*000002.tar holds"):
        survey_shards(stream.shards, clip_seconds=1)
    with pytest.raises(ValueError, match="2 of 4 clips could not be read"):
        list(stream)


def test_shard_that_vanishes_counts_as_damaged(tmp_path, caplog):
    write_shards(tmp_path, [5, 5, 5])
    stream = ClipStream(str(tmp_path), passes=2, max_bad_fraction=0.2)
    clips = iter(stream)
    next(clips)
    (tmp_path / "shard-000001.tar").unlink()
    with caplog.at_level(logging.WARNING):
        rest = list(clips)
    assert len(rest) in (14 + 10, 9 + 10)  # it may be open already
    warnings = {record.message for record in caplog.records}
    (warning,) = warnings
    assert "shard-000001.tar: the shard cannot be read: [Errno 2]" in warning
    position = rest[-1].position
    fresh = ClipStream(str(tmp_path), passes=3, max_bad_fraction=0.2)
    fresh.advance(position)
    assert len(list(fresh)) == 10


def test_files_that_vanish_count_as_damaged(tmp_path, caplog):
    for number in range(20):
        (tmp_path / f"{number}.flac").write_bytes(make_clip(number))
    stream = ClipStream(str(tmp_path), passes=2, max_bad_fraction=0.1)
    clips = iter(stream)
    for _ in range(20):
        next(clips)
    (tmp_path / "3.flac").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(list(clips)) == 19
    (record,) = caplog.records
    assert "3.flac: [Errno 2] No such file or directory" in record.message


def test_a_disk_that_is_gone_ends_the_run(tmp_path):
    write_shards(tmp_path, [100, 100])
    clips = iter(ClipStream(str(tmp_path)))
    for _ in range(200):
        next(clips)
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    with pytest.raises(ValueError, match=r"2 of 2 clips could not be read"):
        next(clips)


def test_list_of_shards_is_checked(tmp_path):
    with pytest.raises(ValueError, match="0.txt is of no kind"):
        ClipStream(["0.txt"])
    with pytest.raises(ValueError, match="0.tar is named twice"):
        ClipStream(["0.tar", "0.tar"])


def write_with_bad(folder, num_good, num_bad):
    clips = [(f"good-{n}.flac", make_clip(n)) for n in range(num_good)]
    clips += [(f"bad-{n}.flac", b"text") for n in range(num_bad)]
    write_tar(folder / "0.tar", clips)


def test_bad_clips_are_left_out_counted_and_named(tmp_path, caplog):
    write_with_bad(tmp_path, num_good=8, num_bad=2)
    stream = ClipStream(str(tmp_path), passes=1, max_bad_fraction=0.2)
    with caplog.at_level(logging.WARNING):
        clips = list(stream)
    assert sorted(names(clips)) == [f"good-{n}.flac" for n in range(8)]
    warnings = sorted(record.message for record in caplog.records)
    for number, warning in enumerate(warnings):
        assert f"0.tar::bad-{number}.flac: it cannot be decoded" in warning
    assert len(warnings) == 2
    last = clips[-1].position
    assert last.bad <= 2
    assert last.seen - last.bad == 8


def test_too_many_bad_clips_stop_at_the_end_of_a_pass(tmp_path):
    write_with_bad(tmp_path, num_good=8, num_bad=2)
    stream = ClipStream(str(tmp_path), max_bad_fraction=0.19)
    message = (
        r"2 of 10 clips could not be read \(20.0%\), and max_bad_fraction=0.19 "
        r"are allowed: check .* or raise it. The last: .*bad-\d.flac"
    )
    with pytest.raises(ValueError, match=message):
        list(stream)


def test_too_many_bad_clips_stop_within_a_pass_after_a_hundred(tmp_path):
    write_with_bad(tmp_path, num_good=200, num_bad=100)
    stream = iter(ClipStream(str(tmp_path), shuffle_buffer=300))
    num_good = 0
    with pytest.raises(ValueError, match=r"of 100 clips could not be read"):
        for _ in stream:
            num_good += 1
    assert 40 < num_good < 90


def test_stream_without_any_good_clip_ends_whatever_is_allowed(tmp_path):
    write_with_bad(tmp_path, num_good=0, num_bad=3)
    with pytest.raises(ValueError, match="3 of 3 clips could not be read"):
        list(ClipStream(str(tmp_path), max_bad_fraction=1.0))


def test_lost_members_of_a_damaged_tar_count_as_bad(tmp_path, caplog):
    clips = [(f"{n}.flac", make_clip(n)) for n in range(10)]
    offsets = write_tar(tmp_path / "0.tar", clips)
    data = bytearray((tmp_path / "0.tar").read_bytes())
    data[offsets["4.flac"] : offsets["4.flac"] + 512] = bytes(range(256)) * 2
    (tmp_path / "0.tar").write_bytes(data)
    stream = ClipStream(str(tmp_path), passes=1, max_bad_fraction=0.1)
    found = list(stream)
    assert len(found) == 9
    (record,) = caplog.records
    assert (
        "0.tar: damaged tar file, at least 1 of its members" in record.message
    )
    strict = ClipStream(str(tmp_path), passes=1, max_bad_fraction=0.09)
    with pytest.raises(ValueError, match="1 of 10 clips could not be read"):
        list(strict)


def test_real_shards_good_and_bad():
    folder = REAL / "pretrain_mini"
    if not folder.is_dir():
        pytest.skip(f"no real audio at {REAL}")
    pattern = f"{folder}/shard-{{000000..000002}}.tar"
    clips = list(ClipStream(pattern, passes=1))
    assert sorted(names(clips)) == [f"{n:06d}.flac" for n in range(112)]
    assert all(clip.waveform.shape[1] == 1 for clip in clips)
    bad = f"{folder}/shards_bad.tar"
    found = list(ClipStream(bad, passes=1, max_bad_fraction=0.4))
    assert len(found) == 9
    with pytest.raises(ValueError, match="6 of 15 clips could not be read"):
        list(ClipStream(bad, passes=1, max_bad_fraction=0.39))
