"""Check shards: hashes, counts, and whether every clip can be decoded.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import (
    open_clip,
    read_pieces,
    read_waveform,
)
from speechbrain_wavjepa.dataio.members import Member, iterate_members
from speechbrain_wavjepa.dataio.shards import (
    Shard,
    expand_shards,
    printable,
    shard_name,
    shard_path,
)
from speechbrain_wavjepa.dataio.writer import (
    MANIFEST_NAME,
    find_change,
    find_entry,
    read_manifest,
)
from speechbrain_wavjepa.utils.files import path_inside
from speechbrain_wavjepa.utils.processes import worker_map

MAX_SECONDS = 600  # a longer file is no clip
MAX_VALUES = 2**28  # decoded at once, 1 GiB


class ClipPool:
    """Maps a function over clips or shards, in their order.

    Arguments
    ---------
    num_workers : int
        Processes of one thread each; 0 works in this process.

    Raises
    ------
    ValueError
        If the number is negative.

    Example
    -------
    >>> with ClipPool(0) as pool:
    ...     list(pool.imap(abs, [-1]))
    [1]
    """

    def __init__(self, num_workers: int):
        if num_workers < 0:
            raise ValueError(
                f"--num_workers must be 0 or more, got {num_workers}."
            )
        self._stack = contextlib.ExitStack()
        one_thread = functools.partial(torch.set_num_threads, 1)
        self._map = self._stack.enter_context(
            worker_map(num_workers, one_thread)
        )

    def __enter__(self) -> "ClipPool":
        return self

    def __exit__(self, *exception) -> None:
        self._stack.__exit__(*exception)

    def imap(self, function: Callable, items: Iterable) -> Iterator:
        """Yield the results in the order of the items."""
        return self._map(function, items)


def read_whole(data: Union[bytes, str]) -> tuple[Tensor, int]:
    """Decode a clip to its end.

    Arguments
    ---------
    data : bytes or str
        The encoded clip, or its path.

    Returns
    -------
    waveform : [T, C]
        The clip.
    rate : int
        Its sample rate in Hz.

    Raises
    ------
    ValueError
        If it cannot be decoded, is not finite, or is too long for a clip.

    Example
    -------
    >>> read_whole(b"text")
    Traceback (most recent call last):
        ...
    ValueError: it cannot be decoded: Format not recognised
    """
    with open_clip(data) as file:
        longest = min(MAX_SECONDS, MAX_VALUES / file.samplerate / file.channels)
    waveform, rate = read_waveform(data, longest)
    if len(waveform) >= longest * rate:
        raise ValueError(
            f"it is longer than {longest:.0f} s: cut it, or train on the "
            "folder itself, where each pass takes another part"
        )
    if not torch.isfinite(waveform).all():
        raise ValueError("it holds values that are not finite")
    return waveform, rate


def check_clip(clip: Member) -> None:
    """Decode a clip to its end, in constant memory.

    Arguments
    ---------
    clip : Member
        A clip.

    Raises
    ------
    ValueError
        If it cannot be decoded, or is not finite.
    OSError
        If it cannot be opened.

    Example
    -------
    >>> check_clip(Member(0, "0.flac", b"text"))
    Traceback (most recent call last):
        ...
    ValueError: it cannot be decoded: Format not recognised
    """
    if clip.problem:
        raise ValueError(clip.problem)
    with open_clip(clip.data) as file:
        if clip.start:
            file.seek(clip.start)
        end = min(clip.stop or file.frames, file.frames)
        for piece in read_pieces(file, clip.start, end - clip.start):
            if not np.isfinite(piece).all():
                raise ValueError("it holds values that are not finite")


def check_shard(shard: Shard) -> tuple[int, str]:
    """Check a shard against its manifest, if it has one, and decode all.

    Arguments
    ---------
    shard : str or Segment
        A shard.

    Returns
    -------
    num_clips : int
        Clips that can be read.
    problem : str
        What is wrong, empty if nothing is.

    Example
    -------
    >>> path = getfixture("tmp_path") / "0.flac"
    >>> _ = path.write_bytes(b"text")
    >>> check_shard(str(path))
    (0, '0.flac: it cannot be decoded: Format not recognised')
    """
    path = shard_path(shard)
    entry = find_entry(path)
    problems = [find_change(Path(path), entry)] if entry else []
    num_clips = num_bad = 0
    try:
        for member in iterate_members(shard):
            try:
                check_clip(member)
                num_clips += 1
            except (ValueError, OSError) as error:
                num_bad += 1
                if num_bad == 1:
                    problems.append(f"{member.name}: {error}")
    except (ValueError, OSError) as error:
        problems.append(str(error))
    if num_bad > 1:
        problems.append(f"and {num_bad - 1} more that cannot be read")
    if entry and num_clips != entry["clips"]:
        problems.append(f"{num_clips} of {entry['clips']} clips can be read")
    return num_clips, "; ".join(filter(None, problems))


def check_shards(spec: str, num_workers: int = 0) -> int:
    """Check shards and print a line for each bad one.

    Arguments
    ---------
    spec : str
        A folder, or any setting of shards that training understands.
    num_workers : int
        Processes that decode; 0 decodes in this process.

    Returns
    -------
    int
        The number of bad shards.

    Example
    -------
    >>> path = getfixture("tmp_path") / "0.flac"
    >>> _ = path.write_bytes(b"text")
    >>> check_shards(str(path))
    <BLANKLINE>
    ...0.flac: 0.flac: it cannot be decoded: Format not recognised
    1 shards, 1 of them bad, 0 clips can be read
    1
    """
    folder = Path(spec)
    names = read_manifest(folder).get("shards", {})
    if not names and (folder / MANIFEST_NAME).exists():
        print(
            f"{folder / MANIFEST_NAME} is none of audioset_prepare.py, or "
            "damaged: sizes, hashes and counts are not checked"
        )
    # the manifest also knows of shards that are missing
    shards = [str(path_inside(folder, name)) for name in names]
    shards = shards or expand_shards(spec)
    num_bad = total = 0
    bar = tqdm(total=len(shards), unit=" shards", dynamic_ncols=True)
    with bar, ClipPool(num_workers) as pool:
        checked = pool.imap(check_shard, shards)
        for shard, (num_clips, problem) in zip(shards, checked, strict=True):
            bar.update()
            total += num_clips
            if problem:
                num_bad += 1
                line = printable(f"{shard_name(shard)}: {problem}")
                bar.write(line, file=sys.stdout)
    print(
        f"{len(shards)} shards, {num_bad} of them bad, {total} clips can be "
        "read"
    )
    return num_bad
