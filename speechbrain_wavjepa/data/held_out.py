"""Which clips of a data set are held out for validation.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import math
import os
from typing import Optional, Union

from speechbrain_wavjepa.data.clips import UNKNOWN_LENGTH, open_clip
from speechbrain_wavjepa.data.names import Segment, Shard, shard_path
from speechbrain_wavjepa.data.sources import is_clip_name, name_shards
from speechbrain_wavjepa.data.survey import count_clips
from speechbrain_wavjepa.data.urls import is_remote

MAX_PARTS = 16  # clips that one recording gives for validation


def hold_out(
    spec: Union[str, list[str]],
    num_clips: int,
    clip_seconds: float,
    data_root: Optional[str] = None,
) -> tuple[list[Shard], list[Shard]]:
    """Hold out clips for validation.

    Of audio files those are held out whose names have the smallest hashes,
    so files that are added later move few; segments of a file stay together.
    A long one counts as up to 16 clips, parts that lie evenly. Of tar and
    parquet files the last ones are held out.

    Arguments
    ---------
    spec : str or list of str
        What ``sources.expand_shards`` understands.
    num_clips : int
        Clips to hold out, at least.
    clip_seconds : float
        Length of a clip.
    data_root : str, optional
        As of ``expand_shards``.

    Returns
    -------
    train : list of str or Segment
        Shards to train on.
    valid : list of str or Segment
        Shards to validate on.

    Raises
    ------
    ValueError
        If more than half would be held out.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for number in range(5):
    ...     (folder / f"{number}.wav").touch()
    >>> train, valid = hold_out(str(folder), 2, 10.0)
    >>> len(train), len(valid)
    (3, 2)
    """
    if isinstance(num_clips, bool) or not isinstance(num_clips, int):
        raise ValueError(f"num_valid_clips must be a number, got {num_clips}.")
    if num_clips < 1:
        raise ValueError(
            f"num_valid_clips must be 1 or more, got {num_clips}: the loss on "
            "held-out clips is how a run is judged."
        )
    named = name_shards(spec, data_root)
    if all(is_clip_name(shard_path(shard)) for shard, _ in named):
        return _choose_files(named, num_clips, clip_seconds)
    shards = [shard for shard, _ in named]
    first = _choose_shards(shards, num_clips)
    return shards[:first], shards[first:]


def _choose_files(
    named: list[tuple[Shard, str]], num_clips: int, clip_seconds: float
) -> tuple[list[Shard], list[Shard]]:
    """Hold out files that together hold so many clips."""
    files: dict[str, list[Shard]] = {}
    for shard, name in named:
        files.setdefault(name, []).append(shard)
    held, num_held, parts = set(), 0, []
    for name in sorted(files, key=_hash_name):
        if 2 * (num_held + len(files[name])) > len(named):
            continue  # its segments would be more than half
        held.add(name)
        num_held += len(files[name])
        max_parts = max(MAX_PARTS // len(files[name]), 1)
        for shard in files[name]:
            parts += _cut_parts(shard, clip_seconds, max_parts)
        if len(parts) >= num_clips:
            break
    if len(parts) < num_clips:
        raise ValueError(
            f"{len(named)} clips in {len(files)} files are too few to hold "
            f"out num_valid_clips={num_clips} for validation (not more than "
            f"half of them, not more than {MAX_PARTS} parts of a long one, "
            "and segments of a file stay together): give a smaller "
            "num_valid_clips (a loss over few clips is noisy), or other clips "
            "as valid_shards."
        )
    return [shard for shard, name in named if name not in held], parts


def _cut_parts(
    shard: Shard, clip_seconds: float, max_parts: int
) -> list[Shard]:
    """Cut parts out of a long recording that lie evenly."""
    path, begin, stop = Segment(shard) if isinstance(shard, str) else shard
    if is_remote(path):
        return [shard]
    try:
        with open_clip(path) as file:
            end = file.frames if stop is None else min(stop, file.frames)
            size = math.ceil(clip_seconds * file.samplerate)
    except (ValueError, OSError):
        return [shard]  # counted where it is read
    rest = end - begin - size
    num_parts = min((end - begin) // size, max_parts)  # without overlap
    if num_parts <= 1 or end >= UNKNOWN_LENGTH:
        return [shard]
    starts = [begin + rest * n // (num_parts - 1) for n in range(num_parts)]
    return [Segment(path, start, start + size) for start in starts]


def _hash_name(name: str) -> tuple[bytes, str]:
    """Give what names are sorted by."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return digest, name


def _choose_shards(shards: list[Shard], num_clips: int) -> int:
    """Give the index of the first shard that is held out."""
    if len(shards) == 1:
        raise ValueError(
            "One shard cannot be split into training and validation: give "
            "other clips as valid_shards, or make smaller shards "
            "(audioset_prepare.py --clips_per_shard)."
        )
    total, first = 0, len(shards)
    while total < num_clips and 2 * (len(shards) - first + 1) <= len(shards):
        first -= 1
        count = count_clips(shards[first])
        if count is None:  # remote: a shard holds many clips
            return first
        total += count
    if total < num_clips:
        raise ValueError(
            f"The last {len(shards) - first} of {len(shards)} shards hold "
            f"{total} clips, too few to hold out num_valid_clips={num_clips} "
            "for validation: give a smaller num_valid_clips (a loss over few "
            "clips is noisy), other clips as valid_shards, or smaller shards "
            "(audioset_prepare.py --clips_per_shard)."
        )
    return first
