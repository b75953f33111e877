"""Tables and files of a data set, read with errors that help.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Union


def check_there(path: Union[str, Path]) -> None:
    """Refuse a file of a data set that is missing.

    Arguments
    ---------
    path : str or Path
        The file.

    Raises
    ------
    ValueError
        If it is not there.

    Example
    -------
    >>> check_there("nowhere/meta.csv")
    Traceback (most recent call last):
    ...
    ValueError: nowhere/meta.csv is missing: ...
    """
    if not Path(path).is_file():
        raise ValueError(
            f"{path} is missing: is the data set unpacked there, and whole?"
        )


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ","
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

    Returns
    -------
    list of dict[str, str]
        The rows.

    Raises
    ------
    ValueError
        If the file, a column, a cell or all rows are missing.

    Example
    -------
    >>> read_table(Path("nowhere/esc50.csv"), ["fold"])
    Traceback (most recent call last):
    ...
    ValueError: nowhere/esc50.csv is missing: ...
    """
    check_there(path)
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        header, rows = reader.fieldnames or [], list(reader)
    if missing := [column for column in columns if column not in header]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}, it has {header}."
        )
    if not rows:
        raise ValueError(f"{path} has a header and no row: is it whole?")
    for number, row in enumerate(rows, 1):
        if None in (row[column] for column in columns):
            raise ValueError(f"Row {number} of {path} is cut off: {row}.")
    return rows


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
