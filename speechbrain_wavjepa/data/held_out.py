"""Which clips of a data set are held out for validation.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import os
from typing import Optional, Union

from speechbrain_wavjepa.data.names import Shard, shard_path
from speechbrain_wavjepa.data.sources import is_clip_name, name_shards
from speechbrain_wavjepa.data.survey import count_clips


def hold_out(
    spec: Union[str, list[str]],
    num_clips: int,
    data_root: Optional[str] = None,
) -> tuple[list[Shard], list[Shard]]:
    """Hold out clips for validation.

    Of audio files those are held out whose names have the smallest hashes,
    so files that are added later move few; segments of a file stay together.
    Of tar and parquet files the last ones are held out.

    Arguments
    ---------
    spec : str or list of str
        What ``sources.expand_shards`` understands.
    num_clips : int
        Clips to hold out, at least.
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
    >>> train, valid = hold_out(str(folder), 2)
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
        held = _choose_files([name for _, name in named], num_clips)
        is_held = [name in held for _, name in named]
    else:
        first = _choose_shards([shard for shard, _ in named], num_clips)
        is_held = [index >= first for index in range(len(named))]
    train = [s for (s, _), out in zip(named, is_held, strict=True) if not out]
    valid = [s for (s, _), out in zip(named, is_held, strict=True) if out]
    return train, valid


def _choose_files(names: list[str], num_clips: int) -> set[str]:
    """Choose the names of files that together hold so many clips."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    held, total = set(), 0
    for name in sorted(counts, key=_hash_name):
        held.add(name)
        total += counts[name]
        if total >= num_clips:
            break
    if 2 * total > len(names) or total < num_clips:
        raise ValueError(
            f"{len(names)} clips in {len(counts)} files are too few to hold "
            f"out num_valid_clips={num_clips} of them for validation: give a "
            "smaller num_valid_clips (a loss over few clips is noisy), or "
            "other clips as valid_shards."
        )
    return held


def _hash_name(name: str) -> tuple[bytes, str]:
    """Give what names are sorted by."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return digest, name


def _choose_shards(shards: list[Shard], num_clips: int) -> int:
    """Give the index of the first shard that is held out."""
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
