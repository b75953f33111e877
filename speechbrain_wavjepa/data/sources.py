"""Where clips lie: from a setting to the list of its shards.

A shard is a tar file, a parquet file or a single audio file; it lies on a
disk, behind an http(s) url, or in a dataset repository of the Hugging Face
hub. How a shard is read is the matter of ``members.py``.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
import glob
import itertools
import re
import urllib.parse
from pathlib import Path
from typing import Union

from speechbrain_wavjepa.data.urls import hub_files, is_remote

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
PACKED_SUFFIXES = (".tar", ".parquet")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_shards(spec: Union[str, list[str]]) -> list[str]:
    """List the shards that a setting names.

    Arguments
    ---------
    spec : str or list of str
        One or several of: a file or url, a brace range of them such as
        ``shard-{000000..000869}.tar``, a glob pattern (disk and hub), a
        folder (its tar files, else its parquet files, else every audio file
        below it), a SpeechBrain csv manifest with a column ``wav``.

    Returns
    -------
    list of str
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
    patterns = [spec] if isinstance(spec, (str, Path)) else list(spec)
    shards = []
    for pattern in patterns:
        paths = _expand_braces(str(pattern))
        _check_present(str(pattern), paths)
        for path in paths:
            shards.extend(_expand_path(path))
    if not shards:
        raise ValueError(f"The list of shards is empty: {spec!r}.")
    seen = set()
    for shard in shards:
        if shard in seen:
            raise ValueError(
                f"{shard} is named twice by {str(spec)!r}: no clip may be "
                "seen twice in a pass, so name each shard or file once."
            )
        seen.add(shard)
        if suffix_of(shard) not in PACKED_SUFFIXES + AUDIO_SUFFIXES:
            raise ValueError(
                f"{shard} is of no kind that can be read: give "
                f"{', '.join(PACKED_SUFFIXES + AUDIO_SUFFIXES)} files "
                "(unpack compressed tars first)."
            )
    return shards


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
    return Path(path).suffix.lower()


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
    path = Path(name)
    is_shadow = path.name.startswith("._")
    return path.suffix.lower() in AUDIO_SUFFIXES and not is_shadow


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
        and not Path(path).exists()
    ]
    if missing:
        raise ValueError(
            f"{pattern!r} names {len(missing)} of {len(paths)} files or "
            f"folders that do not exist, first {missing[0]}: check the path "
            "in the yaml, or narrow the range to what is there."
        )


def _expand_path(path: str) -> list[str]:
    """List the shards of one path, url or glob pattern."""
    if is_remote(path) and not path.startswith("hf://"):
        return [path]
    if glob.has_magic(path) and not Path(path).exists():
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
    if Path(path).is_dir():
        return _expand_folder(Path(path))
    if suffix_of(path) == ".csv":
        return _read_manifest(Path(path))
    return [path]


def _expand_folder(folder: Path) -> list[str]:
    """List a folder's tar files, else its parquet files, else its clips."""
    for suffix in PACKED_SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if found:
            return [str(path) for path in found]
    found = [path for path in folder.rglob("*") if is_clip_name(path.name)]
    if not found:
        raise ValueError(
            f"The folder {folder} holds no .tar, no .parquet and below it no "
            f"{', '.join(AUDIO_SUFFIXES)} file: check the path in the yaml."
        )
    return [str(path) for path in sorted(found)]


def _read_manifest(path: Path) -> list[str]:
    """Read the column ``wav``; relative paths start at the csv's folder."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        if "wav" not in columns:
            raise ValueError(
                f"{path} has no column 'wav' (its columns: {columns}): a "
                "manifest needs the header ID,duration,wav."
            )
        names = [row["wav"] or "" for row in reader]
    if not names or not all(names):
        raise ValueError(
            f"{path} lists {len(names)} clips, {names.count('')} of them "
            "without a path in the column 'wav': make the manifest again."
        )
    return [
        name if is_remote(name) else str(path.parent / name) for name in names
    ]
