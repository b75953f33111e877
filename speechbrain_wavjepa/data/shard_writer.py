"""Write tar shards: the same clips give the same bytes, or no file at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_wavjepa.utils.files import path_inside


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
