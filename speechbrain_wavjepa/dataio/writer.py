"""Tar shards, written whole or not at all, and the manifest beside them.

The same clips give the same bytes. ``manifest.json``, written by
``audioset_prepare.py``, has the clips, bytes and hash of each shard: readers
of a damaged shard learn from it how many clips are lost.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import itertools
import json
import math
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechbrain_wavjepa.dataio.shards import is_remote
from speechbrain_wavjepa.utils.files import atomic_file, hash_file, path_inside

MANIFEST_NAME = "manifest.json"
MAX_BYTES = 512 * 1024**2  # of a manifest


def read_manifest(folder: Path) -> dict:
    """Read a folder's manifest; {} if there is none, or none of ours."""
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
        isinstance(number, (int, float)) and 0 <= number < math.inf
        for number in numbers
    )


def write_manifest(folder: Path, manifest: dict) -> None:
    """Write the manifest of a folder; a reader never sees half of it."""
    text = json.dumps(manifest, indent=1, sort_keys=True)
    with atomic_file(folder / MANIFEST_NAME) as aside:
        aside.write_text(f"{text}\n", encoding="utf-8")


def find_entries(shards: Iterable[str]) -> dict[str, dict]:
    """Look local shards up in the manifests beside them; {} if not listed."""
    paths = {shard: Path(shard) for shard in shards if not is_remote(shard)}
    folders = {path.parent for path in paths.values()}
    known = {path: read_manifest(path).get("shards", {}) for path in folders}
    return {s: known[p.parent].get(p.name, {}) for s, p in paths.items()}


def find_entry(shard: str) -> dict:
    """Look a shard up in the manifest beside it; {} if it is not listed."""
    return find_entries([shard]).get(shard, {})


def encode_flac(
    waveform: np.ndarray, sample_rate: int, subtype: str = "PCM_16"
) -> bytes:
    """Encode [T, C], floats up to 1 or integers of full range, as FLAC."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, subtype, format="FLAC")
    return file.getvalue()


def write_shard(
    path: Path, clips: Iterable[tuple[str, bytes, dict]], suffix: str = ".flac"
) -> dict:
    """Write (key, file, metadata) as KEY + suffix and KEY.json of a shard.

    Returns its entry in a manifest. No clips give no shard.
    """
    clips = iter(clips)
    first = next(clips, None)
    if first is None:
        return {"clips": 0, "bytes": 0, "sha256": ""}
    with atomic_file(path) as aside:
        num_clips = 0
        with tarfile.open(aside, "w") as tar:
            for key, data, metadata in itertools.chain([first], clips):
                path_inside(path.parent, key)
                text = json.dumps(metadata, sort_keys=True).encode()
                for name, content in ((suffix, data), (".json", text)):
                    header = tarfile.TarInfo(f"{key}{name}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
                num_clips += 1
        size, sha256 = aside.stat().st_size, hash_file(aside)
    return {"clips": num_clips, "bytes": size, "sha256": sha256}
