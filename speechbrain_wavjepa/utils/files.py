"""Files and folders: written whole or not at all, owned, known by content.

``atomic_file`` and ``atomic_folder`` write; ``claim`` binds a folder to the
settings and data that it was made with; ``hold`` lets one process write into
it; ``path_inside`` checks names that come from files.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Optional, TextIO, Union

from tqdm import tqdm

logger = logging.getLogger(__name__)

MADE_WITH_FILE = "made_with.json"
LOCK_FILE = ".lock"
PIECE = 2**20  # bytes hashed at once


@contextlib.contextmanager
def atomic_folder(folder: Union[str, Path]) -> Iterator[Path]:
    """Write a folder (or replace it) aside; sync it, and name it at the end.

    A symbolic link stays: the folder that it leads to is replaced.
    """
    folder = Path(os.path.realpath(folder))
    aside = folder.with_name(f".{folder.name}.unfinished")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in [*aside.iterdir(), aside]:
            sync(path)
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
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: Union[str, Path]) -> Iterator[Path]:
    """Write a file (or replace it) aside; sync it, and name it at the end."""
    path = Path(os.path.realpath(path))
    aside = path.with_name(f".{path.name}.unfinished")
    try:
        yield aside
        sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def sync(path: Union[str, Path]) -> None:
    """Wait until a file or folder is on the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows cannot open folders and writes their entries itself
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: Union[str, Path]) -> str:
    """Compute the SHA-256 of a file, in constant memory."""
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(*values: Any) -> str:
    """Hash what JSON can hold; the order of a dictionary's keys is free."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_files(folder: Path, names: Iterable[str]) -> str:
    """Hash files below a folder by name, size and content, in any order."""
    bar = tqdm(sorted(names), f"hash {folder.name}", unit=" files", delay=2)
    paths = ((name, folder / name) for name in bar)
    return fingerprint([[n, p.stat().st_size, hash_file(p)] for n, p in paths])


def path_inside(folder: Union[str, Path], name: str) -> Path:
    """Join a folder and a name that a file holds; refuse one that leads out.

    Every name that this package reads from a file passes through here.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if (
        not any(part not in ("", ".") for part in parts)
        or ".." in parts
        or PurePosixPath(name).is_absolute()
        or PureWindowsPath(name).drive
        or "\\" in name
        or any(ord(character) < 32 for character in name)
    ):
        raise ValueError(
            f"The name {name!r} cannot be a name in {folder}: give a relative "
            "path without '..', backslashes and control characters."
        )
    return Path(folder) / name


def claim(
    folder: Union[str, Path],
    made_with: Mapping[str, Any],
    way_out: str = "choose another output folder, or delete this one",
) -> None:
    """Make a folder belong to settings and data, or refuse others.

    ``made_with`` holds all that its content depends on, as plain values.
    """
    folder, note = Path(folder), Path(folder) / MADE_WITH_FILE
    now = json.loads(json.dumps(made_with))  # lists for tuples, as in the file
    if note.exists():
        if different := compare(read_note(note), now):
            raise ValueError(
                f"{folder} was made with {different}: go back to the former, "
                f"{way_out}."
            )
        return
    if name := _first_file(folder):
        raise ValueError(
            f"{folder} exists and holds something else ({name}): {way_out}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(note) as aside:
        aside.write_text(json.dumps(now, indent=1), encoding="utf-8")


def is_made(folder: Union[str, Path], made_with: Mapping[str, Any]) -> bool:
    """Tell whether a folder was made of the same; refuse other contents."""
    if not _first_file(Path(folder)):
        return False
    claim(folder, made_with)
    return True


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs, as "seed=1, not seed=2"; "" if nothing does."""
    names = sorted({*before, *now})
    names = [name for name in names if before.get(name) != now.get(name)]
    # a setting says more than all that is built from it
    plain = [n for n in names if _is_plain([before.get(n), now.get(n)])]
    names = plain or names
    old = ", ".join(f"{name}={before.get(name)}" for name in names)
    new = ", ".join(f"{name}={now.get(name)}" for name in names)
    return f"{old}, not {new}" if names else ""


def read_note(note: Path) -> dict[str, Any]:
    """Read what a folder was made with."""
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{note} is damaged: {error}") from error
    if not isinstance(before, dict):
        raise ValueError(f"{note} is damaged: it holds no settings.")
    return before


def _is_plain(value: Any) -> bool:
    """Say whether a value is a number, a text or a list of such."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict)


def _first_file(folder: Path) -> str:
    """Name a file of a folder, or a file itself; "" if there is none."""
    paths = folder.rglob("*") if folder.is_dir() else [folder]
    names = (x.name for x in paths if os.path.lexists(x) and not x.is_dir())
    return next((name for name in names if name != LOCK_FILE), "")


@contextlib.contextmanager
def hold(folder: Union[str, Path]) -> Iterator[Callable[[], None]]:
    """Let no other process write into a folder, until this one ends.

    Yields a function that raises an OSError if the folder was removed, or made
    again by another process: call it before what must not be lost is written.
    On Windows nothing is held.
    """
    folder = Path(folder)
    is_new, file = not folder.exists(), _lock(folder)
    if file is None:
        yield lambda: None
        return

    def check() -> None:
        if not _is_file_at(file, folder / LOCK_FILE):
            raise OSError(
                f"{folder} was removed during the run: no more is written."
            )

    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield check
    finally:
        # an error that ends the run, as a read-only disk, is not hidden here
        with contextlib.suppress(OSError):
            if _is_file_at(file, folder / LOCK_FILE):
                (folder / LOCK_FILE).unlink()
        file.close()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing was written


def _lock(folder: Path) -> Optional[TextIO]:
    """Lock a folder's file; None where the disk or system has no locks."""
    if os.name == "nt":
        return None
    import fcntl  # not on Windows

    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = open(folder / LOCK_FILE, "a+", encoding="utf-8")
        except FileNotFoundError:
            continue  # a refused start has just removed the folder it made
        try:
            # a forked child does not inherit it, unlike flock or filelock's
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"{folder} is in use by {holder}: wait until it ends, or "
                    "choose another output folder."
                ) from error
            why = f"cannot be locked ({error.strerror})"
            logger.warning(f"{folder} {why}: start no second run there.")
            return None
        if _is_file_at(file, folder / LOCK_FILE):
            return file
        file.close()  # its last holder has just removed it


def _is_file_at(file: TextIO, path: Path) -> bool:
    """Tell whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
