"""Parquet shards as AudioSet is published."""

import http.server
import io
import re
import sys
import threading
from functools import partial

import pytest
from shard_factory import make_clip
from survey import survey_shards

from speechbrain_wavjepa.dataio import ClipStream
from speechbrain_wavjepa.dataio.members import iterate_members


@pytest.fixture(autouse=True)
def pyarrow_parquet():
    """Skip at run time where the extra [data] is not installed."""
    return pytest.importorskip("pyarrow.parquet")


def write_parquet(path, rows, rows_per_group=2):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, path, row_group_size=rows_per_group)


def audioset_row(number, data):
    return {
        "video_id": f"id{number}",
        "audio": {"bytes": data, "path": f"/etc/{number}.flac"},
        "labels": ["/m/09x0r"],
        "human_labels": ["Speech"],
    }


def test_rows_are_members_from_any_start(tmp_path):
    clips = [make_clip(number) for number in range(5)]
    rows = [audioset_row(number, clip) for number, clip in enumerate(clips)]
    write_parquet(tmp_path / "0.parquet", rows)
    shard = str(tmp_path / "0.parquet")
    for start in range(6):
        found = list(iterate_members(shard, start))
        assert [member.data for member in found] == clips[start:]
        assert [member.index for member in found] == list(range(5))[start:]
        assert [m.name for m in found] == [f"id{n}" for n in range(5)][start:]


def test_row_without_bytes_never_opens_its_path(tmp_path):
    secret = tmp_path / "secret.flac"
    secret.write_bytes(make_clip(0))
    rows = [
        {"video_id": "a", "audio": {"bytes": None, "path": str(secret)}},
        {"video_id": "b", "audio": None},
        {"video_id": "c", "audio": {"bytes": b"too long", "path": "c"}},
        {"video_id": None, "audio": {"bytes": b"ok", "path": "d.flac"}},
    ]
    write_parquet(tmp_path / "0.parquet", rows)
    found = list(iterate_members(str(tmp_path / "0.parquet"), max_bytes=7))
    assert [member.data for member in found] == [b"", b"", b"", b"ok"]
    assert [member.problem for member in found] == [
        "the row holds no bytes",
        "the row holds no bytes",
        "it has 8 bytes, over 7",
        "",
    ]
    assert found[3].name == "d.flac"


def test_damaged_row_group_counts_its_clips(tmp_path):
    import pyarrow.parquet

    rows = [audioset_row(n, make_clip(n)) for n in range(6)]
    path = tmp_path / "0.parquet"
    write_parquet(path, rows, rows_per_group=2)
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(1)
    start = group.column(0).dictionary_page_offset
    start = start or group.column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + group.total_byte_size // 2] = b"\xff" * (
        group.total_byte_size // 2
    )
    path.write_bytes(data)
    found = list(iterate_members(str(path)))
    assert [m.name for m in found if m.data] == ["id0", "id1", "id4", "id5"]
    (lost,) = [member for member in found if member.problem]
    assert lost.num_lost == 2
    assert lost.problem.startswith("damaged row group 1, 2 clips lost")
    assert list(iterate_members(str(path), start=3)) == found[3:]


def test_cut_file_and_foreign_columns(tmp_path):
    path = tmp_path / "0.parquet"
    write_parquet(path, [audioset_row(0, make_clip(0))])
    path.write_bytes(path.read_bytes()[:-100])
    assert_damage(path, "not a whole parquet file")
    write_parquet(path, [{"text": "hello"}])
    assert_damage(path, "no column 'audio'.*columns: text")
    write_parquet(path, [{"audio": "hello"}])
    assert_damage(path, "no column 'audio' with a field")


def assert_damage(path, reason):
    (found,) = iterate_members(str(path))
    assert re.match(reason, found.problem)
    with pytest.raises(ValueError, match=f"0.parquet holds no clip .{reason}"):
        survey_shards([str(path)], clip_seconds=1)


def test_the_start_reads_metadata_only(tmp_path):
    """The columns of these files are damaged; their metadata is whole."""
    path = tmp_path / "0.parquet"
    write_parquet(path, [audioset_row(n, make_clip(n)) for n in range(5)])
    data = bytearray(path.read_bytes())
    data[4:1000] = bytes(996)
    path.write_bytes(data)
    found = survey_shards([str(path)], clip_seconds=1)
    assert (found.num_clips, found.seconds) == (5, None)
    assert str(found) == "5 clips in 1 files, hours unknown"


def test_a_server_that_is_away_is_no_damaged_row_group(tmp_path, monkeypatch):
    """Else a run would pass over what it could read a minute later."""
    path = tmp_path / "0.parquet"
    write_parquet(path, [audioset_row(n, make_clip(n)) for n in range(6)])

    class Away(io.FileIO):
        def read(self, *size):
            if self.tell() < path.stat().st_size // 2:
                raise ConnectionError("the hub is away")
            return super().read(*size)

    from speechbrain_wavjepa.dataio import members as parquet

    monkeypatch.setattr(parquet, "open_url", Away)
    with pytest.raises(ConnectionError, match="the hub is away"):
        list(parquet.read_parquet(str(path), 0, 10**6))


def test_stream_over_http_equals_local(tmp_path):
    rows = [audioset_row(n, make_clip(n)) for n in range(4)]
    write_parquet(tmp_path / "0.parquet", rows)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            """Keep the test's output clean."""

    handler = partial(Quiet, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/0.parquet"
    local = list(ClipStream(str(tmp_path / "0.parquet"), passes=1))
    remote = list(ClipStream(url, passes=1))
    server.shutdown()
    server.server_close()
    assert len(local) == 4
    for clip, other in zip(local, remote, strict=True):
        assert clip.waveform.equal(other.waveform)
        assert clip.key.split("::")[1] == other.key.split("::")[1]


def test_without_pyarrow_the_error_has_the_command(tmp_path, monkeypatch):
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[data\]'"):
        list(iterate_members(str(tmp_path / "0.parquet")))
