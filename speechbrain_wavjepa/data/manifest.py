"""The manifest beside shards: how many clips each has, its size and hash.

``audioset_prepare.py`` writes it. Readers of a damaged shard learn from it
how many clips are lost; checks compare with it.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Union

from speechbrain_wavjepa.data.urls import is_remote
from speechbrain_wavjepa.utils.files import fingerprint

MANIFEST_NAME = "manifest.json"
PIECE = 1024**2  # bytes hashed at once
MOST_LOOKS = 64  # files without a manifest of which the beginning is hashed
LOOK = 2**16  # bytes of it


def read_manifest(folder: Path) -> dict:
    """Read the manifest of a folder.

    Arguments
    ---------
    folder : Path
        Folder of shards.

    Returns
    -------
    dict
        The manifest, empty if there is none or another program's.

    Example
    -------
    >>> read_manifest(getfixture("tmp_path"))
    {}
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # whatever it is, it was not written by write_manifest
        return {}
    is_ours = isinstance(manifest, dict) and "shards" in manifest
    return manifest if is_ours else {}


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write the manifest of a folder; a reader never sees half of it.

    Arguments
    ---------
    folder : Path
        Folder of shards.
    manifest : dict
        With "shards": for each name "clips", "bytes" and "sha256".

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> write_manifest(folder, {"shards": {}})
    >>> read_manifest(folder)
    {'shards': {}}
    """
    aside = folder / f"{MANIFEST_NAME}.part"
    text = json.dumps(manifest, indent=1, sort_keys=True)
    aside.write_text(f"{text}\n", encoding="utf-8")
    os.replace(aside, folder / MANIFEST_NAME)


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
    and, of up to 64 of them, the beginning. Their folder does not count.

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
    manifests: dict[Path, dict] = {}
    every = -(-len(parts) // MOST_LOOKS)
    rows, num_bytes = [], 0
    for number, (name, *part) in enumerate(parts):
        if is_remote(name):
            rows.append([name, *part])
            continue
        path = Path(name)
        if path.parent not in manifests:
            manifests[path.parent] = read_manifest(path.parent)
        known = manifests[path.parent].get("shards", {}).get(path.name, {})
        content = known.get("sha256")
        if content is None and number % every == 0:
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read(LOOK)).hexdigest()
        size = path.stat().st_size
        num_bytes += size
        rows.append([path.name, size, content, *part])
    ends = [name.rsplit("/", 1)[-1] for name, *_ in (parts[0], parts[-1])]
    return (
        f"{len(parts)} files, {' to '.join(dict.fromkeys(ends))}, "
        f"{num_bytes:,} bytes, {fingerprint(rows)[:16]}"
    )


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
    digest = hashlib.sha256()
    with open(shard, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    if digest.hexdigest() != entry["sha256"]:
        return "its sha256 is not that of the manifest"
    return ""
