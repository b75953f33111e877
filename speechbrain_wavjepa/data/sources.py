"""Where clips lie: from a setting to the list of its shards.

A shard is a tar file, a parquet file, a single audio file or a segment of
one; it lies on a disk, behind an http(s) url, or in a dataset repository of
the Hugging Face hub. How a shard is read is the matter of ``members.py``.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import glob
import itertools
import os
import re
import urllib.parse
from pathlib import Path
from typing import Optional, Union

from speechbrain_wavjepa.data.clip_lists import read_clip_list
from speechbrain_wavjepa.data.names import (
    Shard,
    shard_name,
    shard_path,
    shard_place,
)
from speechbrain_wavjepa.data.urls import hub_files, is_remote

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
PACKED_SUFFIXES = (".tar", ".parquet")
MANIFEST_SUFFIXES = (".csv", ".json")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_shards(
    spec: Union[str, list[str]], data_root: Optional[str] = None
) -> list[Shard]:
    """List the shards that a setting names.

    Arguments
    ---------
    spec : str or list of str
        One or several of: a file or url, a brace range of them such as
        ``shard-{000000..000869}.tar``, a glob pattern (disk and hub), a
        folder (its tar files, else its parquet files, else every audio file
        below it), a SpeechBrain manifest (csv with a column ``wav``, json).
    data_root : str, optional
        What ``$data_root`` stands for in manifests; by default the
        manifest's folder.

    Returns
    -------
    list of str or Segment
        The shards, in the order of the setting; sorted within a folder or
        pattern.

    Raises
    ------
    ValueError
        If something named is missing, of an unknown kind, or named twice.

    Example
    -------
    >>> expand_shards("https://example.org/clips-{08..10}.tar")[-1]
    'https://example.org/clips-10.tar'
    """
    return [shard for shard, _ in name_shards(spec, data_root)]


def name_shards(
    spec: Union[str, list[str]], data_root: Optional[str] = None
) -> list[tuple[Shard, str]]:
    """List the shards of a setting with names that survive a move.

    Arguments
    ---------
    spec : str or list of str
        As of ``expand_shards``.
    data_root : str, optional
        As of ``expand_shards``.

    Returns
    -------
    list of (str or Segment, str)
        Each shard, and the name of its file below the folder, manifest or
        pattern; segments of a file share it.

    Raises
    ------
    ValueError
        As of ``expand_shards``.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "0.wav").touch()
    >>> name_shards(str(folder))[0][1]
    '0.wav'
    """
    patterns = [spec] if isinstance(spec, (str, Path)) else list(spec)
    named = []
    for pattern in map(str, patterns):
        paths = [pattern] if _is_there(pattern) else _expand_braces(pattern)
        _check_present(pattern, paths)
        for path in paths:
            root = _find_root(path)
            for shard in _expand_path(path, data_root):
                name = shard_path(shard).removeprefix(root).lstrip("/")
                named.append((shard, name))
    check_shards([shard for shard, _ in named])
    return named


def check_shards(shards: list[Shard]) -> None:
    """Refuse shards that are named twice or of an unknown kind.

    Arguments
    ---------
    shards : list of str or Segment
        Shards; none of them is opened.

    Raises
    ------
    ValueError
        If there is such a shard, or none at all.

    Example
    -------
    >>> check_shards(["0.tar", "1.tar"])
    """
    if not shards:
        raise ValueError("The list of shards is empty.")
    seen = set()
    for shard in shards:
        place = shard_place(shard)
        if place in seen:
            raise ValueError(
                f"{shard_name(shard)} is named twice: no clip may be seen "
                "twice in a pass, so name each shard or file once."
            )
        seen.add(place)
        kinds = AUDIO_SUFFIXES
        if isinstance(shard, str):
            kinds = PACKED_SUFFIXES + kinds
        if suffix_of(shard_path(shard)) not in kinds:
            raise ValueError(
                f"{shard_name(shard)} is of no kind that can be read: give "
                f"{', '.join(kinds)} files (unpack compressed tars first)."
            )


def suffix_of(path: str) -> str:
    """Give the lower-case suffix of a path or url, its query left out.

    Arguments
    ---------
    path : str
        A path or url.

    Returns
    -------
    str
        The suffix with its dot, empty if there is none.

    Example
    -------
    >>> suffix_of("https://example.org/a/B.TAR?download=true")
    '.tar'
    """
    if is_remote(path):
        path = urllib.parse.urlsplit(path).path
    return os.path.splitext(path)[1].lower()


def is_clip_name(name: str) -> bool:
    """Say whether a file of this name is read as a clip.

    Arguments
    ---------
    name : str
        The name of a file or of a member of a shard.

    Returns
    -------
    bool
        True for the audio suffixes, False for everything else and for the
        shadow files ("._name") that some systems leave beside a file.

    Example
    -------
    >>> is_clip_name("a/0.FLAC"), is_clip_name("0.pkl"), is_clip_name("._0.wav")
    (True, False, False)
    """
    suffix = os.path.splitext(name)[1].lower()
    is_shadow = os.path.basename(name).startswith("._")
    return suffix in AUDIO_SUFFIXES and not is_shadow


def find_clips(folder: Union[str, Path]) -> list[str]:
    """List the audio files of a folder and of all folders below it.

    Linked folders are followed, each folder once, so a circle of links ends.

    Arguments
    ---------
    folder : str or Path
        The folder.

    Returns
    -------
    list of str
        The paths of everything with the name of a clip that is no folder,
        sorted.

    Raises
    ------
    OSError
        If a folder cannot be listed.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "0.wav").touch()
    >>> [path[-5:] for path in find_clips(folder)]
    ['0.wav']
    """
    found, visited, pending = [], set(), [str(folder)]
    while pending:
        current = pending.pop(0)
        status = os.stat(current)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(current) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                linked = entry.is_symlink()  # is_dir fails on circular ones
                if os.path.isdir(entry.path) if linked else entry.is_dir():
                    pending.append(entry.path)
                elif is_clip_name(entry.name):
                    found.append(entry.path)
    return sorted(found)


def _is_there(path: str) -> bool:
    """Say whether this is the name of something on this machine's disks."""
    return not is_remote(path) and os.path.lexists(path)


def _find_root(path: str) -> str:
    """Give the folder below which the shards of a path are named."""
    if is_remote(path):
        path = urllib.parse.urlsplit(path)._replace(query="").geturl()
    elif os.path.isdir(path):
        return path
    while path and glob.has_magic(path) and not _is_there(path):
        path = os.path.dirname(path)
        if not glob.has_magic(path):
            return path
    return os.path.dirname(path)


def _expand_braces(pattern: str) -> list[str]:
    """Write out every {000..123}, keeping the zeros in front."""
    parts = BRACES.split(pattern)
    texts, firsts, lasts = parts[0::3], parts[1::3], parts[2::3]
    ranges = []
    for first, last in zip(firsts, lasts, strict=True):
        if int(first) > int(last):
            raise ValueError(
                f"{{{first}..{last}}} in {pattern!r} counts down: write the "
                "smaller number first."
            )
        numbers = range(int(first), int(last) + 1)
        ranges.append([f"{number:0{len(first)}d}" for number in numbers])
    return [
        "".join(itertools.chain(*zip(texts, [*numbers, ""], strict=True)))
        for numbers in itertools.product(*ranges)
    ]


def _check_present(pattern: str, paths: list[str]) -> None:
    """Stop at once if a named local file or folder does not exist."""
    missing = [
        path
        for path in paths
        if not is_remote(path)
        and not glob.has_magic(path)
        and not os.path.exists(path)
    ]
    if missing:
        raise ValueError(
            f"{pattern!r} names {len(missing)} of {len(paths)} files or "
            f"folders that do not exist, first {missing[0]}: check the path "
            "in the yaml, or narrow the range to what is there."
        )


def _expand_path(path: str, data_root: Optional[str]) -> list[Shard]:
    """List the shards of one path, url or glob pattern."""
    if is_remote(path) and not path.startswith("hf://"):
        return [path]
    if glob.has_magic(path) and not _is_there(path):
        if is_remote(path):
            found = [f"hf://{name}" for name in hub_files().glob(path)]
        else:
            found = glob.glob(path, recursive=True)
        if not found:
            raise ValueError(
                f"No file matches {path!r}: check the pattern in the yaml."
            )
        return sorted(found)
    if is_remote(path):
        return [path]
    if os.path.isdir(path):
        return _expand_folder(path)
    if suffix_of(path) in MANIFEST_SUFFIXES:
        return read_clip_list(Path(path), data_root)
    return [path]


def _expand_folder(folder: str) -> list[str]:
    """List a folder's tar files, else its parquet files, else its clips."""
    names = sorted(os.listdir(folder))
    for suffix in PACKED_SUFFIXES:
        found = [name for name in names if Path(name).suffix.lower() == suffix]
        if found:
            return [os.path.join(folder, name) for name in found]
    found = find_clips(folder)
    if not found:
        raise ValueError(
            f"The folder {folder} holds no .tar, no .parquet and below it no "
            f"{', '.join(AUDIO_SUFFIXES)} file: check the path in the yaml."
        )
    return found
