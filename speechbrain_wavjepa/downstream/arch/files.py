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
        If the file or a column is missing.

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
        rows = list(reader)
    if missing := [c for c in columns if c not in (reader.fieldnames or [])]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}, it has {reader.fieldnames}."
        )
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
    found = sorted(folder.glob(pattern))
    if not found:
        raise ValueError(
            f"{folder} has no file {pattern!r}: is the data set unpacked there?"
        )
    return found
