"""What is inside a shard: its clips, one after the other, still encoded.

Shards come from anywhere, so nothing in them is trusted: only regular members
with an audio suffix are read, up to a bound; nothing is extracted, unpickled
or run, and names are labels only. Damage is told as a member without data.
Tar files are POSIX.1-2001 or GNU tar; ``tarfile`` hides what lies behind a
damaged header, so they are walked here. Parquet files are AudioSet's on the
hub: rows of ``audio`` (``bytes`` and ``path``) and mostly ``video_id``.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import math
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional, Union

from speechbrain_wavjepa.dataio.shards import (
    Segment,
    Shard,
    is_clip_name,
    is_remote,
    open_url,
    suffix_of,
)
from speechbrain_wavjepa.dataio.writer import find_entry
from speechbrain_wavjepa.utils.environment import require

MAX_MEMBER_BYTES = 256 * 1024**2
BLOCK = tarfile.BLOCKSIZE
PIECE = 2**20  # bytes read at once of what is passed over
MAX_NAME_BYTES = 64 * 1024
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)
WITHOUT_DATA += (tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")
ROWS_AT_ONCE = 16
MAX_FETCHED_BYTES = 4 * 1024**3  # of a parquet file behind http


class Member(NamedTuple):
    """A clip as it lies in its shard, or the news that clips are lost."""

    index: int  # place in the shard, larger than that of the member before
    name: str
    data: Union[bytes, str] = b""  # encoded, or the path of a local file
    problem: str = ""  # why there is no data
    num_lost: int = 0  # clips that the problem takes away
    start: int = 0  # first sample of the clip in its file
    stop: Optional[int] = None  # the sample behind its last one


def iterate_members(
    shard: Shard, start: int = 0, max_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[Member]:
    """Read the clips of a shard from an index on, always in the same order.

    Of a damaged, missing or unreadable shard a last member says how many are
    lost: exactly, if a manifest of ours lies beside it, else at least how
    many. Raises OSError if a server is away, ValueError if it refuses.
    """
    if isinstance(shard, Segment) or is_clip_name(shard):
        if start == 0:
            yield _read_file(shard, max_bytes)
        return
    if suffix_of(shard) == ".tar":
        members = _read_tar(shard, max_bytes)
    else:
        require("pyarrow", "data")
        members = read_parquet(shard, start, max_bytes)
    index, problem = 0, "the shard holds no clip"
    try:
        for member in members:
            index = member.index + 1
            if member.index >= start:
                yield member
        if max(index, start) > 0:
            return
    except OSError as error:
        if is_remote(shard):
            raise
        problem = f"the shard cannot be read: {error}"
    index, entry = max(index, start), find_entry(shard)
    num_lost = max(entry["clips"] - index, 1) if entry else 1
    yield Member(index, Path(shard).name, b"", problem, num_lost)


def _read_file(shard: Shard, max_bytes: int) -> Member:
    """Find an audio file that is a shard of its own; fetch a remote one."""
    path, *samples = Segment(shard) if isinstance(shard, str) else shard
    name, data, problem = Path(path).name, path, ""
    if is_remote(path):
        try:
            with open_url(path) as file:
                data = file.read(max_bytes + 1)
            if len(data) > max_bytes:
                problem = f"it has more than {max_bytes} bytes"
        except OSError as error:
            problem = str(error)
    lost = Member(0, name, b"", problem, 1)
    return lost if problem else Member(0, name, data, "", 0, *samples)


def _read_tar(path: str, max_bytes: int) -> Iterator[Member]:
    """Read the clips of a tar file, then tell of its damage."""
    index, damages = 0, []
    with open_url(path) as file:
        for found in walk_tar(file, is_clip_name, max_bytes):
            if isinstance(found, str):
                damages.append(found)
            else:
                yield Member(index, *found)
                index += 1
    if not damages:
        return
    num_lost, entry = len(damages), find_entry(path)
    count = f"at least {num_lost} of its members lost"
    if entry:
        num_lost = max(entry["clips"] - index, 0)
        count = f"{num_lost} of its {entry['clips']} clips lost"
    problem = f"damaged tar file, {count} ({'; '.join(damages[:3])})"
    yield Member(index, Path(path).name, b"", problem, num_lost)


def walk_tar(
    file: BinaryIO, is_wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[Union[tuple[str, bytes], str]]:
    """Read the wanted regular members (name, data), and tell of gaps (str).

    Behind a damaged header, or a member that is too large, the next whole
    header is searched block by block.
    """
    end = None
    if file.seekable():  # what is passed over need not be read
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
    position, long_name = 0, ""
    at_end_mark = True  # an empty file is not damaged, but empty
    is_searching = False
    while len(block := file.read(BLOCK)) == BLOCK:
        place, position = position, position + BLOCK
        at_end_mark = not any(block)
        if at_end_mark:
            continue
        header = _parse_header(block)
        if header is None:
            if not is_searching:
                yield f"damaged header, byte {place}"
            is_searching = True
            continue
        name = long_name or header.name
        is_clip = header.type in REGULAR and is_wanted(name)
        is_searching = is_clip and header.size > max_bytes
        if is_searching:
            yield f"{name!r} has over {max_bytes} bytes, byte {place}"
            continue
        is_name = header.type in LONG_NAME
        size = 0 if header.type in WITHOUT_DATA else header.size
        padded = size + -size % BLOCK
        data = file.read(padded) if is_clip or is_name else b""
        if (len(data) or _pass_over(file, padded, end)) < size:
            yield f"the file ends within {name!r}, byte {place}"
            return
        position += padded
        long_name = _parse_name(header, data[:size]) if is_name else ""
        if is_clip:
            yield name, data[:size]
    if (not at_end_mark or any(block)) and not is_searching:
        yield f"the file ends without an end mark, byte {position}"


def _pass_over(file: BinaryIO, size: int, end: Optional[int]) -> int:
    """Go forward in a file; give the bytes that were there."""
    if end is not None:
        place = file.tell()
        return file.seek(min(place + size, end)) - place
    left = size
    while left > 0 and (piece := file.read(min(left, PIECE))):
        left -= len(piece)
    return size - left


def _parse_header(block: bytes) -> Optional[tarfile.TarInfo]:
    """Read a header; None if the checksum fails or its size is absurd."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except tarfile.HeaderError:
        return None
    limit = MAX_NAME_BYTES if header.type in LONG_NAME else math.inf
    return header if 0 <= header.size <= limit else None


def _parse_name(header: tarfile.TarInfo, data: bytes) -> str:
    """Read the name of the next member that its own header cannot hold."""
    if header.type == tarfile.XHDTYPE:  # "LENGTH KEY=VALUE\n", in bytes
        start, path = 0, b""
        while not path and (record := PAX_RECORD.match(data, start)):
            start += max(int(record[1]), record.end() - start)  # it may lie
            if record[2] == b"path":
                path = data[record.end() : start - 1]
        data = path
    return data.rstrip(b"\0").decode("utf-8", "replace")


def read_parquet(path: str, start: int, max_bytes: int) -> Iterator[Member]:
    """Read the clips of a parquet file; their index is their row.

    One problem stands for a damaged row group or a file without clips.
    """
    with open_url(path) as file:
        try:
            if not file.seekable():  # http
                data = file.read(MAX_FETCHED_BYTES + 1)
                if len(data) > MAX_FETCHED_BYTES:
                    raise ValueError("it is too large for http: download it")
                file = io.BytesIO(data)
            table = open_table(file)
        except ValueError as error:
            yield Member(0, Path(path).name, b"", str(error), 1)
            return
        index = 0
        for group in range(table.num_row_groups):
            stop = index + table.metadata.row_group(group).num_rows
            if stop > start:
                yield from _read_group(table, group, index, stop, max_bytes)
            index = stop


def open_table(file: BinaryIO):
    """Read the metadata of a parquet file; ValueError if it has no clips."""
    pyarrow = require("pyarrow", "data")
    try:
        table = require("pyarrow.parquet", "data").ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        if _is_from_outside(error):
            raise
        raise ValueError(f"not a whole parquet file: {error}") from error
    schema, kind = table.schema_arrow, pyarrow.null()
    if "audio" in schema.names:
        kind = schema.field("audio").type
    is_struct = pyarrow.types.is_struct(kind)
    if not is_struct or kind.get_field_index("bytes") < 0:
        raise ValueError(
            "no column 'audio' with a field 'bytes' (its columns: "
            f"{', '.join(schema.names)}): it is no shard of clips"
        )
    return table


def _is_from_outside(error: Exception) -> bool:
    """Tell what a disk or server raises from pyarrow's plain OSErrors."""
    return isinstance(error, OSError) and type(error) is not OSError


def _read_group(
    table: Any, group: int, index: int, stop: int, max_bytes: int
) -> Iterator[Member]:
    """Read the rows of one row group; a damaged rest is one problem."""
    columns = {"video_id", "audio"} & set(table.schema_arrow.names)
    try:
        for batch in table.iter_batches(ROWS_AT_ONCE, [group], list(columns)):
            for row in batch.to_pylist():
                audio = row["audio"] or {}
                # its path is a label, and never opened
                name = row.get("video_id") or audio.get("path")
                data = audio.get("bytes") or b""
                problem = "" if data else "the row holds no bytes"
                if len(data) > max_bytes:
                    problem = f"it has {len(data)} bytes, over {max_bytes}"
                    data = b""
                name, lost = name or f"row {index}", int(bool(problem))
                yield Member(index, name, data, problem, lost)
                index += 1
    except (require("pyarrow", "data").ArrowException, OSError) as error:
        if _is_from_outside(error):
            raise
        lost = stop - index
        problem = f"damaged row group {group}, {lost} clips lost ({error})"
        yield Member(index, f"row {index}", b"", problem, lost)
