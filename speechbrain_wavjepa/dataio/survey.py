"""How much sound there is, as far as headers and manifests tell.

Nothing is decoded, and of many files only some are looked at: this runs at
the start of training, in one process.

Authors
 * The speechbrain_wavjepa developers 2026

Which clips of a data set are held out for validation.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import collections
import hashlib
import math
import os
import random
import time
from pathlib import Path
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.dataio.clips import UNKNOWN_LENGTH, open_clip
from speechbrain_wavjepa.dataio.members import Member, iterate_members, walk_tar
from speechbrain_wavjepa.dataio.shards import (
    Segment,
    Shard,
    is_clip_name,
    is_remote,
    name_shards,
    open_url,
    shard_name,
    shard_path,
    suffix_of,
)
from speechbrain_wavjepa.dataio.writer import read_manifest

MAX_FILES = 1000  # whose headers are read
MAX_LOOKS = 100  # clips of tar files whose headers are read, at least
MAX_TIME = 60.0  # seconds that headers and counting may take


class Survey(NamedTuple):
    """How much sound a list of shards holds.

    Arguments
    ---------
    num_files : int
        Tar, parquet and audio files.
    num_clips : int or None
        Clips; None if nothing tells.
    seconds : float or None
        Their length in all; None if nothing tells.
    heard : float or None
        What a pass takes of it: of longer clips, one part.
    is_exact : bool
        False where the lengths are those of some clips, times their number.

    Example
    -------
    >>> print(Survey(2, 2, 7200.0, 20.0, True))
    2 clips in 2 files, 2.0 hours; a pass takes 0.3 minutes of it ...
    """

    num_files: int
    num_clips: Optional[int]
    seconds: Optional[float]
    heard: Optional[float]
    is_exact: bool

    def __str__(self) -> str:
        """Say it in a line."""
        clips = (
            "clips not counted"
            if self.num_clips is None
            else (f"{self.num_clips} clips")
        )
        text = f"{clips} in {self.num_files} files, "
        if self.seconds is None or self.heard is None:
            return f"{text}hours unknown"
        about = "" if self.is_exact else "about "
        text += f"{about}{_format_time(self.seconds)}"
        if self.heard > 0.999 * self.seconds:
            return text
        return (
            f"{text}; a pass takes {about}{_format_time(self.heard)} of it "
            "(one part of each long clip, another one in each pass)"
        )


def _format_time(seconds: float) -> str:
    """Write a length of sound."""
    if seconds < 3600:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def survey_shards(shards: list[Shard], clip_seconds: float) -> Survey:
    """Look for shards without clips, and for how much sound there is.

    Of a parquet file the metadata is read, of a tar file the headers and the
    first clips.

    Arguments
    ---------
    shards : list of str or Segment
        The shards. What is remote is not looked at.
    clip_seconds : float
        What is taken of a clip.

    Returns
    -------
    Survey
        What is known.

    Raises
    ------
    ValueError
        With a line for each tar or parquet file that holds no clip; or if no
        audio file can be read.

    Example
    -------
    >>> path = str(getfixture("tmp_path") / "0.wav")
    >>> import soundfile
    >>> soundfile.write(path, [0.0] * 80000, 8000)
    >>> print(survey_shards([path], clip_seconds=5))
    1 clips in 1 files, 0.2 minutes; a pass takes 0.1 minutes of it ...
    """
    end = time.monotonic() + MAX_TIME
    files = [shard for shard in shards if is_clip_name(shard_path(shard))]
    packed = [shard for shard in shards if not is_clip_name(shard_path(shard))]
    lengths = _read_headers(files, end)
    counts: list[Optional[int]] = [len(files)]
    known: list[Optional[float]] = [None] * bool(files)
    problems, manifests = [], {}
    looks = max(MAX_LOOKS // max(len(packed), 1), 1)
    for shard in packed:
        if is_remote(shard):
            counts.append(None)
            continue
        path = Path(shard)
        if path.parent not in manifests:
            manifests[path.parent] = read_manifest(path.parent)
        entry = manifests[path.parent].get("shards", {}).get(path.name, {})
        known.append(entry.get("seconds"))
        try:
            lengths += _look_into(shard, looks)
            in_time = time.monotonic() < end
            count = _count_packed(shard) if in_time and not entry else None
        except (ValueError, OSError) as error:
            problems.append(
                f"The shard {shard} holds no clip ({error}): make or download "
                "it again, or take it out of the list of shards."
            )
            continue
        counts.append(entry.get("clips", count))
    if problems:
        raise ValueError("\n".join(problems))
    num_clips = None if None in counts else sum(counts)
    lengths = [length for length in lengths if length is not None]
    seconds = heard = None
    if num_clips is not None and lengths:
        scale = num_clips / len(lengths)
        heard = scale * sum(min(length, clip_seconds) for length in lengths)
        seconds = sum(known) if None not in known else scale * sum(lengths)
    num_files = len(set(map(shard_path, shards)))
    is_exact = num_clips == len(lengths)
    return Survey(num_files, num_clips, seconds, heard, is_exact)


def count_clips(shard: Shard) -> Optional[int]:
    """Count the clips of a shard.

    Arguments
    ---------
    shard : str or Segment
        A shard. Of a tar file that no manifest lists the headers are read.

    Returns
    -------
    int or None
        Its clips; None for a remote tar or parquet file.

    Raises
    ------
    ValueError
        If it is a damaged parquet file.
    OSError
        If it cannot be opened.

    Example
    -------
    >>> count_clips("0.wav")
    1
    """
    if is_clip_name(shard_path(shard)):
        return 1
    if is_remote(shard):
        return None
    path = Path(shard)
    entry = read_manifest(path.parent).get("shards", {}).get(path.name)
    if entry is not None:
        return entry["clips"]
    return _count_packed(shard)


def measure_clip(clip: Member) -> Optional[float]:
    """Read the length of a clip off its header.

    Arguments
    ---------
    clip : Member
        A clip.

    Returns
    -------
    float or None
        Its seconds; None if its header does not tell.

    Example
    -------
    >>> measure_clip(Member(0, "0.flac", b"text")) is None
    True
    """
    try:
        with open_clip(clip.data) as file:
            end = file.frames if clip.stop is None else clip.stop
            end = min(end, file.frames)
            known = clip.start < end < UNKNOWN_LENGTH
            return (end - clip.start) / file.samplerate if known else None
    except (ValueError, OSError):
        return None


def _read_headers(files: list[Shard], end: float) -> list[Optional[float]]:
    """Measure local audio files; of very many, some drawn at random."""
    files = [shard for shard in files if not is_remote(shard_path(shard))]
    if len(files) > MAX_FILES:
        files = random.Random(0).sample(files, MAX_FILES)
    lengths: list[Optional[float]] = []
    for shard in files:
        (clip,) = iterate_members(shard)
        lengths.append(measure_clip(clip))
        if time.monotonic() > end:
            break
    if files and not any(lengths):
        raise ValueError(
            f"None of the {len(lengths)} audio files looked at can be read, "
            f"the first is {shard_name(files[0])}: check the paths, and give "
            "FLAC, WAV, Ogg or MP3 files."
        )
    return lengths


def _look_into(shard: str, num_clips: int) -> list[Optional[float]]:
    """Measure the first clips of a tar file; refuse a shard without any."""
    if suffix_of(shard) == ".parquet":
        if _count_packed(shard) == 0:
            raise ValueError("it has no rows")
        return []
    lengths, problem = [], ""
    for member in iterate_members(shard):
        problem = problem or member.problem
        if member.data:
            lengths.append(measure_clip(member))
            if len(lengths) == num_clips:
                break
    if not lengths:
        raise ValueError(problem)
    return lengths


def _count_packed(shard: str) -> int:
    """Count the clips of a local tar or parquet file by its headers."""
    with open_url(shard) as file:
        if suffix_of(shard) == ".parquet":
            from speechbrain_wavjepa.dataio.members import open_table

            return open_table(file).metadata.num_rows
        names: list[bool] = []

        def pass_over(name: str) -> bool:
            names.append(is_clip_name(name))
            return False

        collections.deque(walk_tar(file, pass_over, 0), maxlen=0)
        return sum(names)


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
