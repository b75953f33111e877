"""Labels, tables and clips of a stranger's data, read with errors that help.

A file that is too large, no regular file, not text, or nested too deeply is
refused by name before it fills the memory or blocks.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Union

MAX_JSON = 2**26  # bytes
MAX_TABLE = 2**26  # bytes
MAX_ROWS = 2**21


def check_there(path: Union[str, Path]) -> None:
    """Refuse a file of a data set that is missing.

    Arguments
    ---------
    path : str or Path
        The file.

    Raises
    ------
    ValueError
        If it is not there, or a folder, a pipe or a device.

    Example
    -------
    >>> check_there("nowhere/meta.csv")
    Traceback (most recent call last):
    ...
    ValueError: nowhere/meta.csv is missing: ...
    """
    if not os.path.exists(path):
        raise ValueError(
            f"{path} is missing: is the data set unpacked there, and whole?"
        )
    if not os.path.isfile(path):
        raise ValueError(f"{path} is no regular file: remove it.")


def read_text(path: Path, max_bytes: int = MAX_TABLE) -> str:
    """Read a file of text.

    Arguments
    ---------
    path : Path
        The file.
    max_bytes : int
        How large it may be.

    Returns
    -------
    str
        Its content.

    Raises
    ------
    ValueError
        If it is missing, no regular file, too large or not UTF-8.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_bytes(b"\\xff")
    >>> read_text(path)
    Traceback (most recent call last):
    ...
    ValueError: .../a.txt is not UTF-8 text: ...
    """
    _check_size(path, max_bytes)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}.") from error


def _check_size(path: Path, max_bytes: int) -> None:
    """Refuse what is no regular file or too large."""
    check_there(path)
    if path.stat().st_size > max_bytes:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, over {max_bytes}: labels "
            "are smaller."
        )


def parse_json(text: str, path: Path) -> Any:
    """Parse json, whatever a stranger wrote.

    Arguments
    ---------
    text : str
        The json.
    path : Path
        Where it is from.

    Returns
    -------
    Any
        Its content.

    Raises
    ------
    ValueError
        If it is not json, or nested too deeply.

    Example
    -------
    >>> parse_json("[" * 100000, Path("a.json"))
    Traceback (most recent call last):
    ...
    ValueError: a.json cannot be read as json: RecursionError: ...
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as json: {type(error).__name__}: {error}"
        ) from error


def read_json(path: Path) -> dict:
    """Read a file of json that holds a mapping.

    Arguments
    ---------
    path : Path
        The file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    ValueError
        If it cannot be read or holds something else.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.json"
    >>> _ = path.write_text('["dog"]')
    >>> read_json(path)
    Traceback (most recent call last):
    ...
    ValueError: .../a.json must hold a mapping in braces, not a list.
    """
    found = parse_json(read_text(path, MAX_JSON), path)
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} must hold a mapping in braces, not a "
            f"{type(found).__name__}."
        )
    return found


def read_rows(
    path: Path, delimiter: str = ",", max_bytes: int = MAX_TABLE
) -> Iterator[list[str]]:
    """Read the rows of a table, one by one.

    Arguments
    ---------
    path : Path
        The file.
    delimiter : str
        Between the cells of a row.
    max_bytes : int
        How large the file may be.

    Yields
    ------
    list of str
        The rows that are not empty, the header first.

    Raises
    ------
    ValueError
        If it cannot be read.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> _ = path.write_text("file,label\\na.wav,dog\\n")
    >>> list(read_rows(path))
    [['file', 'label'], ['a.wav', 'dog']]
    """
    _check_size(path, max_bytes)
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            yield from filter(None, csv.reader(file, delimiter=delimiter))
        except csv.Error as error:
            raise ValueError(f"{path} is no table: {error}.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}.") from error


def read_table(
    path: Path,
    columns: Sequence[str],
    delimiter: str = ",",
    optional: Sequence[str] = (),
    max_bytes: int = MAX_TABLE,
) -> list[dict[str, str]]:
    """Read a table with a header.

    Arguments
    ---------
    path : Path
        The file.
    columns : sequence of str
        What must be there.
    delimiter : str
        Between the cells of a row.
    optional : sequence of str
        What may be there.
    max_bytes : int
        How large the file may be.

    Returns
    -------
    list of dict[str, str]
        The rows, of these columns only.

    Raises
    ------
    ValueError
        If the file, a column, a cell or all rows are missing, a column is
        there twice, or it is too large.

    Example
    -------
    >>> read_table(Path("nowhere/esc50.csv"), ["fold"])
    Traceback (most recent call last):
    ...
    ValueError: nowhere/esc50.csv is missing: ...
    """
    rows = read_rows(path, delimiter, max_bytes)
    header = next(rows, [])
    if missing := [column for column in columns if column not in header]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}, it has {header[:50]}."
        )
    places = {
        column: header.index(column)
        for column in (*columns, *optional)
        if column in header
    }
    if twice := [column for column in places if header.count(column) > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}: rename one.")
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
        found.append(
            {
                column: row[place] if place < len(row) else ""
                for column, place in places.items()
            }
        )
    if not found:
        raise ValueError(f"{path} has a header and no row: is it whole?")
    return found


def find_files(folder: Path, pattern: str) -> list[Path]:
    """List files in an order that is the same on all machines.

    Arguments
    ---------
    folder : Path
        Where to look.
    pattern : str
        As of ``Path.glob``.

    Returns
    -------
    list of Path
        Sorted.

    Raises
    ------
    ValueError
        If there is none.

    Example
    -------
    >>> find_files(Path("nowhere"), "*.wav")
    Traceback (most recent call last):
    ...
    ValueError: nowhere has no file '*.wav': ...
    """
    found = sorted(
        path
        for path in folder.glob(pattern)
        # what macOS leaves beside files
        if not path.name.startswith("._") and "__MACOSX" not in path.parts
    )
    if not found:
        raise ValueError(
            f"{folder} has no file {pattern!r}: is the data set unpacked there?"
        )
    return found
