"""Text, JSON and tables of strangers, read with errors that help.

A file that is too large, no regular file, not text, or nested too deeply is
refused by name before it fills the memory or blocks.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union

MAX_BYTES = 2**26
MAX_ROWS = 2**21


def check_there(path: Union[str, Path]) -> None:
    """Refuse a file that is missing, or a folder, a pipe or a device."""
    if not os.path.exists(path):
        raise ValueError(f"{path} is missing: is the data set unpacked there?")
    if not os.path.isfile(path):
        raise ValueError(f"{path} is no regular file: remove it.")


@contextlib.contextmanager
def _bounded(path: Path, max_bytes: int) -> Iterator[None]:
    """Read a file that must be there, UTF-8 and no larger than this."""
    check_there(path)
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"{path} has {size} bytes, over {max_bytes}.")
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}.") from error


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Read a file of UTF-8 text."""
    with _bounded(path, max_bytes):
        return path.read_text(encoding="utf-8-sig")


def parse_json(text: str, path: Path) -> Any:
    """Parse the JSON of a file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as json: {type(error).__name__}: {error}"
        ) from error


def read_json(path: Path) -> dict:
    """Read a file of JSON that holds a mapping."""
    found = parse_json(read_text(path), path)
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ValueError(f"{path} must hold a mapping in braces, not a {kind}.")
    return found


def read_rows(
    path: Path, delimiter: str = ",", max_bytes: int = MAX_BYTES
) -> Iterator[list[str]]:
    """Read the rows of a table that are not empty, one by one."""
    with (
        _bounded(path, max_bytes),
        open(path, encoding="utf-8-sig", newline="") as file,
    ):
        try:
            yield from filter(None, csv.reader(file, delimiter=delimiter))
        except csv.Error as error:
            raise ValueError(f"{path} is no table: {error}.") from error


def read_table(
    path: Path,
    columns: Sequence[str],
    delimiter: str = ",",
    optional: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
) -> list[dict[str, str]]:
    """Read these columns of a table with a header, as a mapping for each row.

    Memory grows with what is asked for, not with the table's columns.
    """
    rows = read_rows(path, delimiter, max_bytes)
    header = next(rows, [])
    if missing := [column for column in columns if column not in header]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}, it has {header[:50]}."
        )
    wanted = [c for c in (*columns, *optional) if c in header]
    if twice := [column for column in wanted if header.count(column) > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}: rename one.")
    places = {column: header.index(column) for column in wanted}
    least, found = max(map(places.get, columns)), []
    for number, row in enumerate(rows, 1):
        if number > MAX_ROWS:
            raise ValueError(f"{path} has more than {MAX_ROWS} rows: split it.")
        if len(row) <= least:
            raise ValueError(f"Row {number} of {path} is cut off: {row[:50]}.")
        if len(row) > len(header):
            raise ValueError(
                f"Row {number} of {path} has {len(row)} cells, the header "
                f"{len(header)}: put quotes around cells with {delimiter!r}."
            )
        cells = ((c, row[n : n + 1]) for c, n in places.items())
        found.append({column: "".join(cell) for column, cell in cells})
    if not found:
        raise ValueError(f"{path} has a header and no row: is it whole?")
    return found


def find_files(folder: Path, pattern: str) -> list[Path]:
    """List files by a glob pattern, sorted; what macOS leaves is none."""
    found = sorted(
        path
        for path in folder.glob(pattern)
        if not path.name.startswith("._") and "__MACOSX" not in path.parts
    )
    if not found:
        raise ValueError(f"{folder} has no file {pattern!r}: is it unpacked?")
    return found
