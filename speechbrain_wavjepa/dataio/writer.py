"""The manifest beside shards: how many clips each has, its size and hash.

``audioset_prepare.py`` writes it. Readers of a damaged shard learn from it
how many clips are lost; checks compare with it.

Authors
 * The speechbrain_wavjepa developers 2026

Write tar shards: the same clips give the same bytes, or no file at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import io
import json
import math
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import soundfile

from speechbrain_wavjepa.dataio.shards import is_remote
from speechbrain_wavjepa.utils.files import (
    atomic_file,
    fingerprint,
    hash_file,
    path_inside,
)

MANIFEST_NAME = "manifest.json"
MAX_BYTES = 512 * 1024**2
MAX_HASHED = 2**30  # bytes; of more data without a manifest, parts are hashed
MOST_LOOKS = 64  # files of which parts are hashed
LOOK = 2**16  # bytes of a part


def read_manifest(folder: Path) -> dict:
    """Read the manifest of a folder.

    Arguments
    ---------
    folder : Path
        Folder of shards.

    Returns
    -------
    dict
        The manifest; empty if there is none, another program's or a damaged
        one, which whoever depends on it must tell the user.

    Example
    -------
    >>> read_manifest(getfixture("tmp_path"))
    {}
    """
    path = folder / MANIFEST_NAME
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # not written by write_manifest
        return {}
    shards = manifest.get("shards") if isinstance(manifest, dict) else None
    is_ours = isinstance(shards, dict) and all(map(_is_entry, shards.values()))
    return manifest if is_ours else {}


def _is_entry(entry: Any) -> bool:
    """Say whether this is what write_manifest writes of a shard."""
    if not isinstance(entry, dict):
        return False
    numbers = [entry.get("clips"), entry.get("bytes"), entry.get("seconds", 0)]
    return isinstance(entry.get("sha256"), str) and all(
        isinstance(number, (int, float))
        and math.isfinite(number)
        and number >= 0
        for number in numbers
    )


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write the manifest of a folder; a reader never sees half of it.

    Arguments
    ---------
    folder : Path
        Folder of shards.
    manifest : dict
        With "shards": for each name "clips", "bytes" and "sha256", and
        mostly "seconds".

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> write_manifest(folder, {"shards": {}})
    >>> read_manifest(folder)
    {'shards': {}}
    """
    text = json.dumps(manifest, indent=1, sort_keys=True)
    with atomic_file(folder / MANIFEST_NAME) as aside:
        aside.write_text(f"{text}\n", encoding="utf-8")


def find_entry(shard: str) -> Optional[dict]:
    """Look up a shard in the manifest beside it.

    Arguments
    ---------
    shard : str
        A shard.

    Returns
    -------
    dict or None
        Its "clips", "bytes" and "sha256"; None for a url, and for a shard
        that no manifest of ours lists.

    Example
    -------
    >>> find_entry("https://example.org/shard-000000.tar") is None
    True
    """
    if is_remote(shard):
        return None
    path = Path(shard)
    return read_manifest(path.parent).get("shards", {}).get(path.name)


def describe_shards(shards: Iterable[Union[str, tuple]]) -> str:
    """Describe shards for people, and so that others are told apart.

    Files count by name and hash in their manifest; without one by name, size
    and content. Where they have more than 1 GiB together, that is beginning,
    middle and end of up to 64 of them. Their folder does not count.

    Arguments
    ---------
    shards : iterable of str or (str, start, stop)
        Files, urls and parts of them, in their order.

    Returns
    -------
    str
        Number, first and last name, bytes on the disk, and a fingerprint.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("0.tar", "1.tar"):
    ...     _ = (folder / name).write_bytes(b"abc")
    >>> describe_shards([f"{folder}/0.tar", f"{folder}/1.tar"])
    '2 files, 0.tar to 1.tar, 6 bytes, de09946d98db27c3'
    """
    parts = [[s] if isinstance(s, str) else list(s) for s in shards]
    names = dict.fromkeys(name for name, *_ in parts)
    sizes = {n: Path(n).stat().st_size for n in names if not is_remote(n)}
    every = (
        -(-len(sizes) // MOST_LOOKS) if sum(sizes.values()) > MAX_HASHED else 0
    )
    manifests: dict[Path, dict] = {}
    files: dict[str, list] = {}
    for number, (name, size) in enumerate(sizes.items()):
        path = Path(name)
        if path.parent not in manifests:
            manifests[path.parent] = read_manifest(path.parent)
        known = manifests[path.parent].get("shards", {}).get(path.name, {})
        content = known.get("sha256")
        if content is None and not every:
            content = hash_file(path)
        elif content is None and number % every == 0:
            content = _hash_parts(path, size)
        files[name] = [path.name, size, content]
    rows = [[*files.get(name, [name]), *part] for name, *part in parts]
    ends = [name.rsplit("/", 1)[-1] for name, *_ in (parts[0], parts[-1])]
    return (
        f"{len(names)} files, {' to '.join(dict.fromkeys(ends))}, "
        f"{sum(sizes.values()):,} bytes, {fingerprint(rows)[:16]}"
    )


def _hash_parts(path: Path, size: int) -> str:
    """Hash beginning, middle and end of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for place in (0, size // 2, max(size - LOOK, 0)):
            file.seek(place)
            digest.update(file.read(LOOK))
    return digest.hexdigest()


def find_change(shard: Path, entry: dict) -> str:
    """Compare a shard with its entry in the manifest.

    Arguments
    ---------
    shard : Path
        The shard.
    entry : dict
        Its entry.

    Returns
    -------
    str
        What differs, empty if nothing does.

    Example
    -------
    >>> shard = getfixture("tmp_path") / "0.tar"
    >>> _ = shard.write_bytes(b"abc")
    >>> find_change(shard, {"bytes": 4, "sha256": ""})
    '3 bytes, where the manifest has 4'
    """
    if not shard.is_file():
        return "it is missing"
    size = shard.stat().st_size
    if size != entry["bytes"]:
        return f"{size} bytes, where the manifest has {entry['bytes']}"
    if hash_file(shard) != entry["sha256"]:
        return "its sha256 is not that of the manifest"
    return ""


def encode_flac(
    waveform: np.ndarray, sample_rate: int, subtype: str = "PCM_16"
) -> bytes:
    """Encode a waveform as a FLAC file in memory.

    Arguments
    ---------
    waveform : [T, C]
        Floats between -1 and 1, or integers of full range.
    sample_rate : int
        Its sample rate in Hz.
    subtype : str
        "PCM_16" or "PCM_24".

    Returns
    -------
    bytes
        The file.

    Example
    -------
    >>> encode_flac(np.zeros((160, 1)), 16000)[:4]
    b'fLaC'
    """
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, subtype, format="FLAC")
    return file.getvalue()


def write_shard(
    path: Path,
    clips: Iterable[tuple[str, bytes, dict]],
    suffix: str = ".flac",
) -> dict:
    """Write a shard of FLAC clips, or of arrays, and what is known of them.

    The shard is written aside, flushed to the disk and put in its place; if
    anything fails, nothing is left. No clips give no shard.

    Arguments
    ---------
    path : Path
        The shard.
    clips : iterable of (str, bytes, dict)
        The key of each clip, its FLAC file and what to write as json.
    suffix : str
        What the names of the files end in: ".flac", or ".npy" for arrays.

    Returns
    -------
    dict
        The shard's entry in a manifest: "clips", "bytes" and "sha256".

    Raises
    ------
    ValueError
        If a key is no name that stays in its folder when it is unpacked.

    Example
    -------
    >>> path = getfixture("tmp_path") / "shard-000000.tar"
    >>> flac = encode_flac(np.zeros((160, 1)), 16000)
    >>> write_shard(path, [("0", flac, {"label": "silence"})])["clips"]
    1
    """
    aside = Path(f"{path}.part")
    num_clips = 0
    try:
        with open(aside, "wb") as file:
            target = _HashingFile(file)
            with tarfile.open(fileobj=target, mode="w|") as tar:
                for key, data, about in clips:
                    path_inside(path.parent, key)  # whoever unpacks it
                    _add_member(tar, f"{key}{suffix}", data)
                    text = json.dumps(about, sort_keys=True)
                    _add_member(tar, f"{key}.json", text.encode())
                    num_clips += 1
            file.flush()
            os.fsync(file.fileno())
        if num_clips:
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return {
        "clips": num_clips,
        "bytes": target.size,
        "sha256": target.digest.hexdigest(),
    }


class _HashingFile:
    """Counts and hashes what is written to a file."""

    def __init__(self, file):
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return self.file.write(data)


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose header depends on its name and size only."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
