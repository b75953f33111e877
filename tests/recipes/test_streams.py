"""What a pretraining run says of its data before it begins."""

import logging
import socket
from pathlib import Path

import pytest
from shard_factory import make_clip, write_shards
from speechbrain.utils import distributed

from speechbrain_wavjepa.dataio import ClipStream, StreamState

OPTIONS = {"clip_seconds": 0.1, "sample_rate": 16000}
RECIPE = Path(__file__).parents[2] / "recipes" / "AudioSet" / "WavJEPA"


@pytest.fixture
def make_streams(monkeypatch):
    """The recipe's function, given settings that differ from the default."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import streams

    def make(train_shards, **settings):
        hparams = {
            "train_shards": str(train_shards),
            "valid_shards": None,
            "num_valid_clips": 4,
            "data_root": None,
            "shuffle_buffer": 8,
            "num_workers": 1,
            "stream_state": StreamState(),
            "valid_dataloader_opts": {"batch_size": 4},
            "clip_options": OPTIONS,
            **settings,
        }
        return streams.make_streams(hparams)

    return make


def write_clips(folder, count, seconds=0.1):
    folder.mkdir()
    for number in range(count):
        data = make_clip(number, seconds)
        (folder / f"{number:03d}.flac").write_bytes(data)


def read_keys(batches):
    return [clip.key for batch in batches for clip in batch]


def test_folder_of_clips(make_streams, tmp_path, caplog):
    write_clips(tmp_path / "clips", 40)
    with caplog.at_level(logging.INFO):
        train, valid = make_streams(tmp_path / "clips")
    assert (len(train.shards), len(valid.shards)) == (36, 4)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "Training: 36 clips in 36 files, 0.1 minutes.",
        "Validation: 4 clips in 4 files, 0.0 minutes.",
    ]
    assert len(read_keys(valid)) == 4


def read_batches(make_streams, shards, monkeypatch, rank, world_size):
    """The held-out batches of a process: keys, places and sums."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world_size))
    _, valid = make_streams(shards, num_valid_clips=9)
    return [
        [(clip.key, clip.position.seen, clip.waveform.sum()) for clip in batch]
        for batch in valid
    ]


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_validate_on_the_batches_of_one(
    make_streams, tmp_path, monkeypatch, world_size
):
    """One held-out shard; the batch of three is that of one unreadable clip."""
    names = write_shards(tmp_path, [1, 1, 1, 1, 9])
    data = (tmp_path / "shard-000004.tar").read_bytes()
    broken = data.index(make_clip(405))
    data = data[:broken] + bytes(100) + data[broken + 100 :]
    (tmp_path / "shard-000004.tar").write_bytes(data)
    # one of nine: as much on any number of processes
    monkeypatch.setitem(OPTIONS, "max_bad_fraction", 0.12)
    alone = read_batches(make_streams, tmp_path, monkeypatch, 0, 1)
    assert [len(batch) for batch in alone] == [4, 3, 1]
    decoded = []
    decode = ClipStream._decode
    monkeypatch.setattr(
        ClipStream,
        "_decode",
        lambda stream, shard, member, passes: (
            decoded.append(member.name) or decode(stream, shard, member, passes)
        ),
    )
    parts = [
        read_batches(make_streams, tmp_path, monkeypatch, rank, world_size)
        for rank in range(world_size)
    ]
    for number, batch in enumerate(alone):
        assert parts[number % world_size][number // world_size] == batch
    assert sum(map(len, parts)) == len(alone)
    assert sorted(decoded) == sorted(names[4:])  # each of them once


def test_long_recordings(make_streams, tmp_path, caplog):
    write_clips(tmp_path / "clips", 10, seconds=20)
    with caplog.at_level(logging.INFO):
        _, valid = make_streams(tmp_path / "clips", num_valid_clips=16)
    assert len(set(read_keys(valid))) == 16
    training, validation = [r.getMessage() for r in caplog.records]
    assert training == (
        "Training: 9 clips in 9 files, 3.0 minutes; a pass takes 0.0 minutes, "
        "another part of each long clip."
    )
    assert validation == "Validation: 16 clips in 1 files, 0.0 minutes."


def test_shards_are_checked_before_anything_else(make_streams, tmp_path):
    write_shards(tmp_path, [4, 4, 4, 4])
    train, valid = make_streams(tmp_path)
    assert [len(read_keys(valid)), len(train.shards)] == [4, 3]
    (tmp_path / "shard-000001.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="shard-000001.tar holds no clip"):
        make_streams(tmp_path)


def test_own_validation_clips(make_streams, tmp_path):
    write_clips(tmp_path / "train", 5)
    write_clips(tmp_path / "valid", 3)
    train, valid = make_streams(
        tmp_path / "train", valid_shards=str(tmp_path / "valid")
    )
    assert (len(train.shards), len(valid.shards)) == (5, 3)
    for spelling in ("train", "train/../train", "train/00[0-3].flac"):
        with pytest.raises(ValueError, match="of valid_shards are also in"):
            make_streams(
                tmp_path / "train", valid_shards=str(tmp_path / spelling)
            )


def test_manifest_with_data_root(make_streams, tmp_path):
    write_clips(tmp_path / "clips", 12)
    rows = [f"{n},$data_root/{n:03d}.flac,0,800" for n in range(12)]
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["ID,wav,start,stop", *rows]))
    train, valid = make_streams(path, data_root=str(tmp_path / "clips"))
    assert len(train.shards) == 8
    assert {len(clip.waveform) for batch in valid for clip in batch} == {800}
    with pytest.raises(ValueError, match="None of the 8 audio files"):
        make_streams(path)


def test_machines_with_other_shards_are_refused(
    make_streams, tmp_path, monkeypatch
):
    write_shards(tmp_path, [4, 4, 4])
    import streams

    make_streams(tmp_path)
    monkeypatch.setattr(streams, "ddp_broadcast", lambda names: "others")
    message = f"The shards on {socket.gethostname()} are others than"
    with pytest.raises(ValueError, match=message):
        make_streams(tmp_path)


def test_one_process_looks_at_the_shards(make_streams, tmp_path, monkeypatch):
    write_shards(tmp_path, [4, 4, 4])
    import streams

    def fail(shards, seconds):
        raise AssertionError("not in this process")

    monkeypatch.setattr(streams, "survey_shards", fail)
    with pytest.raises(AssertionError, match="not in this process"):
        make_streams(tmp_path)
    monkeypatch.setattr(distributed, "if_main_process", lambda: False)
    train, _ = make_streams(tmp_path)
    assert len(train.shards) == 2
