"""Folders and files that are there whole or not at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Union


@contextlib.contextmanager
def atomic_folder(folder: Union[str, Path]) -> Iterator[Path]:
    """Write a folder aside; sync it to disk and give it its name at the end.

    A folder of that name is replaced. After an error, or when the process is
    killed, it is as it was before.

    Arguments
    ---------
    folder : str or Path
        The folder to make.

    Yields
    ------
    Path
        Where to write.

    Example
    -------
    >>> folder = Path(getfixture("tmpdir")) / "new"
    >>> with atomic_folder(folder) as aside:
    ...     (aside / "file").write_text("whole")
    ...     folder.exists()
    5
    False
    >>> (folder / "file").read_text()
    'whole'
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in [*aside.iterdir(), aside]:
            sync(path)
        _replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: Union[str, Path]) -> Iterator[Path]:
    """Write a file aside; sync it to disk and give it its name at the end.

    Arguments
    ---------
    path : str or Path
        The file to make, or to replace.

    Yields
    ------
    Path
        Where to write.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "new.txt"
    >>> with atomic_file(path) as aside:
    ...     aside.write_text("whole")
    5
    >>> path.read_text()
    'whole'
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.unfinished")
    try:
        yield aside
        sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _replace(aside: Path, folder: Path) -> None:
    """Give a finished folder its name."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(aside, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Union[str, Path]) -> None:
    """Wait until a file or folder is on the disk.

    Arguments
    ---------
    path : str or Path
        The file or folder.

    Example
    -------
    >>> sync(getfixture("tmpdir"))
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
