"""Files and folders: written whole or not at all, owned, known by content.

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
    """Write a folder aside; sync it to disk and give it its name at the end.

    A folder of that name is replaced. After an error, or when the process is
    killed, it is as it was before.

    Arguments
    ---------
    folder : str or Path
        The folder to make; behind a symbolic link the one that it leads to.

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
    folder = Path(os.path.realpath(folder))
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
        The file to make, or to replace; behind a symbolic link the one that
        it leads to.

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
    path = Path(os.path.realpath(path))
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
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows cannot open folders and writes their entries itself
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: Union[str, Path]) -> str:
    """Compute the SHA-256 of a file, in constant memory.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> path = getfixture("tmp_path") / "empty"
    >>> path.touch()
    >>> hash_file(path)[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(*values: Any) -> str:
    """Hash plain values: numbers, texts, lists, dictionaries.

    Arguments
    ---------
    *values : Any
        What JSON can hold; the order of a dictionary's keys does not count.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_files(folder: Path, names: Iterable[str]) -> str:
    """Hash files by name, size and content, whatever their order.

    Arguments
    ---------
    folder : Path
        Where the files are.
    names : iterable of str
        Their paths below it.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a").write_text("1")
    >>> before = fingerprint_files(folder, ["a"])
    >>> _ = (folder / "a").write_text("2")
    >>> fingerprint_files(folder, ["a"]) == before
    False
    """
    return fingerprint(
        [
            [name, os.path.getsize(folder / name), hash_file(folder / name)]
            for name in tqdm(
                sorted(names), f"hash {folder.name}", unit=" files", delay=2
            )
        ]
    )


def path_inside(folder: Union[str, Path], name: str) -> Path:
    """Join a folder and a name that comes from a file.

    Every name that this package reads from a file (a clip, split, fold,
    label, key, task or member) passes through here before it is a path.

    Arguments
    ---------
    folder : str or Path
        The folder.
    name : str
        A relative path, with ``/`` between its parts.

    Returns
    -------
    Path
        The path below the folder.

    Raises
    ------
    ValueError
        If the name is empty, absolute, climbs with ``..`` or holds
        backslashes or control characters.

    Example
    -------
    >>> path_inside("clips", "train/0.wav").as_posix()
    'clips/train/0.wav'
    >>> path_inside("clips", "../precious.wav")
    Traceback (most recent call last):
        ...
    ValueError: The name '../precious.wav' cannot be a name in clips: ...
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
            f"The name {name!r} cannot be a name in {folder}: names in files "
            "must be relative paths without '..', backslashes and control "
            "characters."
        )
    return Path(folder) / name


def claim(
    folder: Union[str, Path],
    made_with: Mapping[str, Any],
    way_out: str = "choose another output folder, or delete this one",
) -> None:
    """Make a folder belong to settings and data, or refuse others.

    Arguments
    ---------
    folder : str or Path
        A folder; made if it does not exist.
    made_with : Mapping[str, Any]
        Everything that what is written there depends on; plain values.
    way_out : str
        What else a user may do who does not go back to the former.

    Raises
    ------
    ValueError
        If the folder was made with other settings or data, or holds files
        of something else.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "run"
    >>> claim(folder, {"seed": 1, "lr": 0.1})
    >>> claim(folder, {"seed": 1, "lr": 0.1})
    >>> claim(folder, {"seed": 2, "lr": 0.1})
    Traceback (most recent call last):
        ...
    ValueError: .../run was made with seed=1, not seed=2: go back to the ...
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
    if folder.exists() and (not folder.is_dir() or _first_file(folder)):
        raise ValueError(
            f"{folder} exists and holds something else "
            f"({_first_file(folder) or 'a file'}): {way_out}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(note) as aside:
        aside.write_text(json.dumps(now, indent=1), encoding="utf-8")


def is_made(folder: Union[str, Path], made_with: Mapping[str, Any]) -> bool:
    """Tell whether a folder was made of the same; refuse other contents.

    Arguments
    ---------
    folder : str or Path
        The folder, which may be missing.
    made_with : Mapping[str, Any]
        As for ``claim``.

    Returns
    -------
    bool
        Whether it is there already; False if it is empty.

    Raises
    ------
    ValueError
        If it was made of something else.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "task"
    >>> is_made(folder, {"seed": 0})
    False
    >>> claim(folder, {"seed": 0})
    >>> is_made(folder, {"seed": 0})
    True
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not _first_file(folder)):
        return False
    claim(folder, made_with)
    return True


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name what differs between two mappings of plain values.

    Arguments
    ---------
    before : Mapping[str, Any]
        What something was made with.
    now : Mapping[str, Any]
        What it would be made with.

    Returns
    -------
    str
        Old and new values of the names that differ; "" if none does.

    Example
    -------
    >>> compare({"seed": 1, "lr": 0.1}, {"seed": 2, "lr": 0.1})
    'seed=1, not seed=2'
    """
    names = [
        name
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    # a setting says more than all that is built from it
    names = [
        name
        for name in names
        if _is_plain(before.get(name)) and _is_plain(now.get(name))
    ] or names
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
    """Name a file of a folder; "" if there are empty folders only."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    names = (path.name for path in files if path.name != LOCK_FILE)
    return next(names, "")


@contextlib.contextmanager
def hold(folder: Union[str, Path]) -> Iterator[Callable[[], None]]:
    """Let no other process write into a folder meanwhile.

    The operating system frees the folder when the process ends, whatever
    ends it, and processes forked from this one do not inherit the lock. On
    Windows, which has no such locks, nothing is held.

    Arguments
    ---------
    folder : str or Path
        The folder; made if it does not exist.

    Yields
    ------
    callable
        Raises an OSError if the folder was removed meanwhile: another
        process may have made it again. Call it before what must not be lost
        is written.

    Raises
    ------
    ValueError
        If another process holds the folder; with its number and host.

    Example
    -------
    >>> with hold(getfixture("tmp_path") / "run") as check:
    ...     check()
    """
    folder = Path(folder)
    is_new, file = not folder.exists(), _lock(folder)
    if file is None:
        yield lambda: None
        return

    def check() -> None:
        if not _is_file_at(file, folder / LOCK_FILE):
            raise OSError(
                f"{folder} was removed during the run, or made again by "
                "another: nothing more is written there."
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
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning(
                    f"{folder} cannot be locked ({error.strerror}): start no "
                    "second run there."
                )
                return None
            raise ValueError(
                f"{folder} is in use by {holder}: wait until it ends, or "
                "choose another output folder."
            ) from error
        if _is_file_at(file, folder / LOCK_FILE):
            return file
        file.close()  # its last holder has just removed it


def _is_file_at(file: TextIO, path: Path) -> bool:
    """Tell whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
