"""Members of shards: numbered, counted, told of when they are lost."""

import errno
import io
import json
import os
from pathlib import Path

import pytest
from shard_factory import make_clip, write_shards, write_tar

from speechbrain_wavjepa.dataio import members
from speechbrain_wavjepa.dataio.clips import decode_clip
from speechbrain_wavjepa.dataio.members import Member, iterate_members

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("WAVJEPA_TEST_DATA", ROOT / "../shared/data"))


def test_any_start_gives_the_same_members(tmp_path):
    names = write_shards(tmp_path, [5])
    shard = str(tmp_path / "shard-000000.tar")
    found = list(iterate_members(shard))
    assert [member.name for member in found] == names
    assert found[3].data == make_clip(3)
    for start in range(7):
        assert list(iterate_members(shard, start)) == found[start:]


def write_damaged(folder):
    names = [f"{number}.flac" for number in range(6)]
    clips = [(name, make_clip(0)) for name in names]
    offsets = write_tar(folder / "0.tar", clips)
    data = bytearray((folder / "0.tar").read_bytes())
    start, stop = offsets["2.flac"], offsets["4.flac"]
    data[start:stop] = b"x" * (stop - start)
    (folder / "0.tar").write_bytes(data)
    return str(folder / "0.tar"), start


def test_damaged_middle_without_manifest_loses_at_least_one(tmp_path):
    shard, start = write_damaged(tmp_path)
    *whole, last = iterate_members(shard)
    assert [m.name for m in whole] == ["0.flac", "1.flac", "4.flac", "5.flac"]
    assert last == Member(
        4,
        "0.tar",
        problem="damaged tar file, at least 1 of its members lost (damaged "
        f"header, byte {start})",
        num_lost=1,
    )
    assert list(iterate_members(shard, start=4)) == [last]


def test_damaged_middle_with_manifest_counts_exactly(tmp_path):
    shard, _ = write_damaged(tmp_path)
    manifest = {"shards": {"0.tar": {"clips": 6, "bytes": 1, "sha256": ""}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    *_, last = iterate_members(shard)
    assert last.num_lost == 2
    assert "2 of its 6 clips lost" in last.problem


@pytest.mark.parametrize(
    "text",
    [
        '[{"key": "0"}]',
        "{}",
        "no json",
        "\x00",
        "[" * 100_000,
        '{"shards": [1]}',
        '{"shards": {"0.tar": 3}}',
        '{"shards": {"0.tar": {"clips": "6"}}}',
        '{"shards": {"0.tar": {"clips": NaN, "bytes": 1, "sha256": ""}}}',
    ],
    ids=lambda text: text[:60],
)
def test_manifest_of_another_program_is_not_believed(tmp_path, text):
    shard, _ = write_damaged(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    *_, last = iterate_members(shard)
    assert "at least 1 of its members lost" in last.problem


def test_too_large_members_are_not_read(tmp_path):
    clips = [("0.flac", bytes(5000)), ("1.flac", b"small")]
    write_tar(tmp_path / "0.tar", clips)
    first, last = iterate_members(str(tmp_path / "0.tar"), max_bytes=1000)
    assert first.name == "1.flac"
    assert "'0.flac' has over 1000 bytes" in last.problem


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "the shard holds no clip"), (b"<html>" * 999, "damaged tar file")],
)
def test_shard_without_clips_is_damage(tmp_path, content, reason):
    (tmp_path / "7.tar").write_bytes(content)
    (found,) = iterate_members(str(tmp_path / "7.tar"))
    assert found.problem.startswith(reason)
    assert (found.name, found.num_lost) == ("7.tar", 1)


def test_shard_with_json_only_is_empty(tmp_path):
    write_tar(tmp_path / "0.tar", [("0.json", b"{}"), ("0.pkl", b"cos\n")])
    (found,) = iterate_members(str(tmp_path / "0.tar"))
    assert found.problem == "the shard holds no clip"


@pytest.mark.parametrize("name", ["gone.tar", "gone.parquet"])
def test_missing_shard_is_damage_that_the_manifest_counts(tmp_path, name):
    """A shard can vanish while a run lasts."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (found,) = iterate_members(str(tmp_path / name))
    assert "cannot be read: [Errno 2] No such file" in found.problem
    assert (found.index, found.num_lost) == (0, 1)
    manifest = {"shards": {name: {"clips": 6, "bytes": 1, "sha256": ""}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (found,) = iterate_members(str(tmp_path / name), start=2)
    assert (found.index, found.num_lost) == (2, 4)


def test_shard_that_fails_while_it_is_read(tmp_path, monkeypatch):
    names = write_shards(tmp_path, [5])
    shard = tmp_path / "shard-000000.tar"

    class Failing(io.FileIO):
        def read(self, size):
            if self.tell() > shard.stat().st_size // 2:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    monkeypatch.setattr(members, "open_url", Failing)
    *whole, last = iterate_members(str(shard))
    assert [member.name for member in whole] == names[: len(whole)]
    assert 1 < len(whole) < 5
    assert "cannot be read: [Errno 5]" in last.problem
    assert last.index == len(whole)


def test_a_pipe_is_not_opened(tmp_path):
    for name in ("0.tar", "0.wav"):
        os.mkfifo(tmp_path / name)
    (found,) = iterate_members(str(tmp_path / "0.tar"))
    assert "it is no regular file" in found.problem
    with pytest.raises(ValueError, match="it is no regular file"):
        decode_clip(str(tmp_path / "0.wav"))


def test_torn_shard_of_real_clips():
    shard = REAL / "pretrain_mini" / "shard_torn.tar"
    if not shard.is_file():
        pytest.skip(f"no real audio at {REAL}")
    *whole, last = iterate_members(str(shard))
    assert [member.name for member in whole] == [
        f"00000{number}.flac" for number in range(4)
    ]
    assert last.num_lost == 1
    assert "the file ends within '000004.flac'" in last.problem
