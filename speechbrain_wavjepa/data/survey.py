"""How much sound there is, as far as headers and manifests tell.

Nothing is decoded, and of many files only some are looked at: this runs at
the start of training, in one process.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import collections
import random
import time
from pathlib import Path
from typing import NamedTuple, Optional

from speechbrain_wavjepa.data.clips import (
    UNKNOWN_LENGTH,
    open_clip,
)
from speechbrain_wavjepa.data.manifest import read_manifest
from speechbrain_wavjepa.data.members import Member, iterate_members
from speechbrain_wavjepa.data.names import Shard, shard_name, shard_path
from speechbrain_wavjepa.data.sources import is_clip_name, suffix_of
from speechbrain_wavjepa.data.tar_walk import walk_tar
from speechbrain_wavjepa.data.urls import is_remote, open_url

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
            # imported late: pyarrow is an extra
            from speechbrain_wavjepa.data.parquet import open_table

            return open_table(file).metadata.num_rows
        names: list[bool] = []

        def pass_over(name: str) -> bool:
            names.append(is_clip_name(name))
            return False

        collections.deque(walk_tar(file, pass_over, 0), maxlen=0)
        return sum(names)
