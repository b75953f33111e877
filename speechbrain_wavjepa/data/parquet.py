"""Clips in parquet shards, as AudioSet is published on the hub.

A row has ``audio`` (a struct of ``bytes`` and ``path``) and mostly
``video_id``; other columns are not read. Needs pyarrow, the extra ``[data]``.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from speechbrain_wavjepa.data.members import Member
from speechbrain_wavjepa.data.urls import open_url

try:
    import pyarrow
    import pyarrow.parquet
except ImportError as error:
    raise ImportError(
        "Parquet shards are read with pyarrow, which is not installed: "
        'pip install "speechbrain-wavjepa[data]"'
    ) from error

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


def open_table(file: BinaryIO) -> "pyarrow.parquet.ParquetFile":
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
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
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


def _holds_clips(schema: "pyarrow.Schema") -> bool:
    """Say whether audio {bytes, ...} is among the columns."""
    if "audio" not in schema.names:
        return False
    kind = schema.field("audio").type
    return pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _read_group(
    table: "pyarrow.parquet.ParquetFile",
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
    except (pyarrow.ArrowException, OSError) as error:
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
