"""Read the members of a tar file that may be damaged or cut.

The standard library's walker trusts the sizes it reads and hides or gives up
at a damaged header. This one reads forward only, from header to header, and
searches block by block for the next whole header where one is damaged. The
format is that of POSIX.1-2001 (ustar and pax) and GNU tar.

Authors
 * The speechbrain_wavjepa developers 2026

What is inside a shard: its clips, one after the other, still encoded.

Shards come from anywhere, so nothing in them is trusted: only regular
members with an audio suffix are read, up to a bound; nothing is extracted,
unpickled, run or written, and member names are labels only. Damage is told
in the stream itself, as a member without data.

Authors
 * The speechbrain_wavjepa developers 2026

Clips in parquet shards, as AudioSet is published on the hub.

A row has ``audio`` (a struct of ``bytes`` and ``path``) and mostly
``video_id``; other columns are not read. Needs pyarrow, the extra ``[data]``.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
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


class Member(NamedTuple):
    """A clip as it lies in its shard, or the news that clips are lost.

    Arguments
    ---------
    index : int
        Its place in the shard, larger than that of the member before.
    name : str
        Its name in the shard.
    data : bytes or str
        The encoded clip, or the path of a local audio file; empty if there
        is a problem.
    problem : str
        Why there is no data.
    num_lost : int
        Clips that the problem takes away.
    start : int
        First sample of the clip in its file.
    stop : int, optional
        The sample behind its last one; None for the end of the file.

    Example
    -------
    >>> Member(0, "0.flac", b"fLaC").problem
    ''
    """

    index: int
    name: str
    data: Union[bytes, str] = b""
    problem: str = ""
    num_lost: int = 0
    start: int = 0
    stop: Optional[int] = None


def iterate_members(
    shard: Shard, start: int = 0, max_bytes: int = MAX_MEMBER_BYTES
) -> Iterator[Member]:
    """Read the clips of a shard in order.

    A damaged tar file is read on at the next whole header, and a last member
    says how many were lost: exactly, if the ``manifest.json`` made by
    ``audioset_prepare.py`` lies beside the shard, else at least how many. So
    it is where a shard is missing, or cannot be read on.

    Arguments
    ---------
    shard : str or Segment
        A tar, parquet or audio file, local or a url, or a segment of one.
    start : int
        Members with a smaller index are left out.
    max_bytes : int
        A larger member is a problem and is not read. A local audio file may
        be larger: it is read where it lies.

    Yields
    ------
    Member
        Whole members and problems, in the same order at every call.

    Raises
    ------
    OSError
        If a server cannot be reached. What lies on a disk and cannot be read
        is damage.
    ValueError
        If a server refuses a url.

    Example
    -------
    >>> [(member.name, member.data) for member in iterate_members("a/0.flac")]
    [('0.flac', 'a/0.flac')]
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
    except OSError as error:
        if is_remote(shard):
            raise
        problem = f"the shard cannot be read: {error}"
    else:
        if max(index, start) > 0:
            return
    index, entry = max(index, start), find_entry(shard)
    num_lost = max(entry["clips"] - index, 1) if entry else 1
    yield Member(index, Path(shard).name, b"", problem, num_lost)


def _read_file(shard: Shard, max_bytes: int) -> Member:
    """Find an audio file that is a shard of its own; fetch a remote one."""
    segment = Segment(shard) if isinstance(shard, str) else shard
    path, *samples = segment
    name = Path(path).name
    if not is_remote(path):
        return Member(0, name, path, "", 0, *samples)
    try:
        with open_url(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        return Member(0, name, problem=str(error), num_lost=1)
    if len(data) > max_bytes:
        problem = f"it has more than {max_bytes} bytes"
        return Member(0, name, problem=problem, num_lost=1)
    return Member(0, name, data, "", 0, *samples)


def _read_tar(path: str, max_bytes: int) -> Iterator[Member]:
    """Read the clips of a tar file, then tell of its damage."""
    index = 0
    damages = []
    with open_url(path) as file:
        for found in walk_tar(file, is_clip_name, max_bytes):
            if isinstance(found, TarMember):
                yield Member(index, found.name, found.data)
                index += 1
            else:
                damages.append(found)
    if not damages:
        return
    entry = find_entry(path)
    if entry is None:
        num_lost = len(damages)
        count = f"at least {num_lost} of its members lost"
    else:
        num_lost = max(entry["clips"] - index, 0)
        count = f"{num_lost} of its {entry['clips']} clips lost"
    places = "; ".join(f"{d.reason}, byte {d.position}" for d in damages[:3])
    problem = f"damaged tar file, {count} ({places})"
    yield Member(index, Path(path).name, problem=problem, num_lost=num_lost)


BLOCK = tarfile.BLOCKSIZE
ZEROS = bytes(BLOCK)
PIECE = 1024**2  # bytes read at once of what is passed over
MAX_NAME_BYTES = 64 * 1024

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
WITHOUT_DATA = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)
PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=]+)=")


class TarMember(NamedTuple):
    """A whole member of a tar file.

    Arguments
    ---------
    name : str
        Its name: a label, never a place to write to.
    data : bytes
        Its content.

    Example
    -------
    >>> TarMember("0.flac", b"fLaC").name
    '0.flac'
    """

    name: str
    data: bytes


class TarDamage(NamedTuple):
    """A gap of a tar file in which at least one member is lost.

    Arguments
    ---------
    position : int
        Byte at which it begins.
    reason : str
        What was found there.

    Example
    -------
    >>> TarDamage(512, "no header").position
    512
    """

    position: int
    reason: str


def walk_tar(
    file: BinaryIO, is_wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[Union[TarMember, TarDamage]]:
    """Read the wanted regular members of a tar file and tell of every gap.

    Arguments
    ---------
    file : binary file
        The tar file, read forward from its beginning.
    is_wanted : callable
        Says by its name whether a member is read or passed over.
    max_bytes : int
        A larger wanted member counts as damage.

    Yields
    ------
    TarMember or TarDamage
        In the order of the file.

    Example
    -------
    >>> import io
    >>> buffer = io.BytesIO()
    >>> with tarfile.open(fileobj=buffer, mode="w") as tar:
    ...     header = tarfile.TarInfo("0.flac")
    ...     header.size = 4
    ...     tar.addfile(header, io.BytesIO(b"fLaC"))
    >>> _ = buffer.seek(0)
    >>> list(walk_tar(buffer, lambda name: True, 100))
    [TarMember(name='0.flac', data=b'fLaC')]
    """
    reader = _BlockReader(file)
    long_name = ""
    is_searching = False
    while block := reader.next_block():
        position = reader.position - BLOCK
        header = _parse_header(block)
        if header is None:
            if not is_searching:
                yield TarDamage(position, "damaged header")
            is_searching = True
            continue
        name = long_name or header.name
        is_clip = header.type in REGULAR and is_wanted(name)
        if is_clip and header.size > max_bytes:
            reason = f"{name!r} has {header.size} bytes, over {max_bytes}"
            yield TarDamage(position, reason)
            is_searching = True
            continue
        is_searching = False
        is_name = header.type in LONG_NAME
        size = 0 if header.type in WITHOUT_DATA else header.size
        data = reader.read_data(size, keep=is_clip or is_name)
        if data is None:
            yield TarDamage(position, f"the file ends within {name!r}")
            return
        long_name = _parse_long_name(header, data) if is_name else ""
        if is_clip:
            yield TarMember(name, data)
    if not (reader.at_end_mark or is_searching):
        yield TarDamage(reader.position, "the file ends without an end mark")


class _BlockReader:
    """Reads a file in the units of the tar format."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.position = 0
        self.at_end_mark = True  # an empty file is not damaged, but empty
        self.size = None  # of a file on a disk, where data is passed over
        if isinstance(file, io.BufferedReader):
            self.size = os.fstat(file.fileno()).st_size

    def next_block(self) -> bytes:
        """Give the next block that is not zero, nothing at the end."""
        while True:
            block = self.file.read(BLOCK)
            if len(block) < BLOCK:
                self.at_end_mark = self.at_end_mark and not any(block)
                return b""
            self.position += BLOCK
            self.at_end_mark = block == ZEROS
            if not self.at_end_mark:
                return block

    def read_data(self, size: int, keep: bool) -> Optional[bytes]:
        """Read a member's data and its filling, None if the file is cut."""
        padded = size + -size % BLOCK
        if keep:
            data = self.file.read(padded)
            self.position += len(data)
            return None if len(data) < size else data[:size]
        left = padded
        if self.size is not None:
            left -= min(padded, max(self.size - self.position, 0))
            self.file.seek(padded - left, os.SEEK_CUR)
        while left > 0:
            num_read = len(self.file.read(min(left, PIECE)))
            if num_read == 0:
                break
            left -= num_read
        self.position += padded - left
        return None if left > padded - size else b""


def _parse_header(block: bytes) -> Optional[tarfile.TarInfo]:
    """Read a header; None if the checksum fails or its size is absurd."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except tarfile.HeaderError:
        return None
    has_long_name = header.type in LONG_NAME
    if header.size < 0 or has_long_name and header.size > MAX_NAME_BYTES:
        return None
    return header


def _parse_long_name(header: tarfile.TarInfo, data: bytes) -> str:
    """Read the name of the next member that its own header cannot hold."""
    if header.type == tarfile.XHDTYPE:
        data = _find_pax_path(data)
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _find_pax_path(data: bytes) -> bytes:
    """Find the path among records "LENGTH KEY=VALUE\\n", which count bytes."""
    start = 0
    while record := PAX_RECORD.match(data, start):
        end = start + int(record[1])
        if record[2] == b"path":
            return data[record.end() : end - 1]
        if end < record.end():
            break
        start = end
    return b""


ROWS_AT_ONCE = 16
MAX_FETCHED_BYTES = 4 * 1024**3


def read_parquet(path: str, start: int, max_bytes: int) -> Iterator[Member]:
    """Read the clips of a parquet file, row group by row group.

    Arguments
    ---------
    path : str
        A local file, or a url. A file behind http is read into memory, up
        to 4 GiB.
    start : int
        Row groups that end before this row are not read.
    max_bytes : int
        A larger clip is a problem.

    Yields
    ------
    Member
        Its index is its row; one problem stands for a damaged row group, or
        for a file that holds no clips.

    Raises
    ------
    OSError
        If the file or its server cannot be read.

    Example
    -------
    >>> import pyarrow.parquet
    >>> path = str(getfixture("tmp_path") / "0.parquet")
    >>> rows = {"audio": [{"bytes": b"fLaC", "path": "a.flac"}]}
    >>> pyarrow.parquet.write_table(pyarrow.table(rows), path)
    >>> list(read_parquet(path, 0, 100))[0].name
    'a.flac'
    """
    with open_url(path) as source:
        try:
            file = source if source.seekable() else _fetch(source)
            table = open_table(file)
        except ValueError as error:
            yield Member(0, Path(path).name, b"", str(error), num_lost=1)
            return
        names = table.schema_arrow.names
        columns = [name for name in ("video_id", "audio") if name in names]
        first = 0
        for group in range(table.num_row_groups):
            num_rows = table.metadata.row_group(group).num_rows
            if first + num_rows > start:
                yield from _read_group(table, group, columns, first, max_bytes)
            first += num_rows


def open_table(file: BinaryIO):
    """Read the metadata of a parquet file of clips.

    Arguments
    ---------
    file : binary file
        A parquet file; it can seek.

    Returns
    -------
    pyarrow.parquet.ParquetFile
        The file; ``metadata.num_rows`` are its clips.

    Raises
    ------
    ValueError
        If it is none, or has no column ``audio`` with ``bytes``.

    Example
    -------
    >>> open_table(io.BytesIO(b"text"))
    Traceback (most recent call last):
        ...
    ValueError: not a whole parquet file: ...
    """
    try:
        table = require("pyarrow.parquet", "data").ParquetFile(file)
    except (_pyarrow().ArrowException, OSError) as error:
        if _is_from_outside(error):
            raise
        raise ValueError(f"not a whole parquet file: {error}") from error
    if not _holds_clips(table.schema_arrow):
        names = ", ".join(table.schema_arrow.names)
        raise ValueError(
            f"no column 'audio' with a field 'bytes' (its columns: {names}): "
            "it is no shard of clips"
        )
    return table


def _fetch(source: BinaryIO) -> BinaryIO:
    """Read a file that cannot seek into memory."""
    data = source.read(MAX_FETCHED_BYTES + 1)
    if len(data) > MAX_FETCHED_BYTES:
        raise ValueError(
            f"it has more than {MAX_FETCHED_BYTES} bytes: download it first"
        )
    return io.BytesIO(data)


def _is_from_outside(error: Exception) -> bool:
    """Tell what a disk or server raises from pyarrow's plain OSErrors."""
    return isinstance(error, OSError) and type(error) is not OSError


def _pyarrow():
    """Import what reads parquet files."""
    return require("pyarrow", "data")


def _holds_clips(schema: Any) -> bool:
    """Say whether audio {bytes, ...} is among the columns."""
    if "audio" not in schema.names:
        return False
    kind = schema.field("audio").type
    return (
        _pyarrow().types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    )


def _read_group(
    table: Any,
    group: int,
    columns: list[str],
    first: int,
    max_bytes: int,
) -> Iterator[Member]:
    """Read the rows of one row group; a damaged rest is one problem."""
    index = first
    try:
        for batch in table.iter_batches(ROWS_AT_ONCE, [group], columns):
            for row in batch.to_pylist():
                yield _read_row(row, index, max_bytes)
                index += 1
    except (_pyarrow().ArrowException, OSError) as error:
        if _is_from_outside(error):
            raise
        num_lost = first + table.metadata.row_group(group).num_rows - index
        problem = f"damaged row group {group}, {num_lost} clips lost ({error})"
        yield Member(index, f"row {index}", problem=problem, num_lost=num_lost)


def _read_row(row: dict, index: int, max_bytes: int) -> Member:
    """Take the clip out of a row. Its path is a label, never opened."""
    audio = row["audio"] or {}
    name = row.get("video_id") or audio.get("path") or f"row {index}"
    data = audio.get("bytes") or b""
    if len(data) > max_bytes:
        problem = f"it has {len(data)} bytes, over {max_bytes}"
    else:
        problem = "" if data else "the row holds no bytes"
    if problem:
        return Member(index, name, problem=problem, num_lost=1)
    return Member(index, name, data)
