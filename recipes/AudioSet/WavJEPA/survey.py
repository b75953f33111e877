"""What a run learns of its data at its start, in one process.

How much sound shards hold, which clips are held out for validation, and what
tells one data set from another. Nothing is decoded: headers and manifests
tell, and of many files only some are looked at.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import math
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.dataio.clips import UNKNOWN_LENGTH, open_clip
from speechbrain_wavjepa.dataio.members import (
    Member,
    iterate_members,
    open_table,
    walk_tar,
)
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
from speechbrain_wavjepa.dataio.writer import find_entries, find_entry
from speechbrain_wavjepa.utils.files import fingerprint, hash_file

MAX_FILES = 1000  # whose headers are read
MAX_LOOKS = 100  # clips of tar files whose headers are read, at least
MAX_TIME = 60.0  # seconds that headers and counting may take
MAX_PARTS = 16  # clips that one recording gives for validation
MAX_HASHED = 2**30  # bytes; of more data without a manifest, parts are hashed
MOST_LOOKS = 64  # files of which parts are hashed
LOOK = 2**16  # bytes of a part


class Survey(NamedTuple):
    """How much sound a list of shards holds; None where nothing tells."""

    num_files: int
    num_clips: Optional[int]
    seconds: Optional[float]
    pass_seconds: Optional[float]  # of longer clips, a pass takes one part
    is_exact: bool  # or lengths of some clips, times their number

    def __str__(self) -> str:
        """Say it in a line."""
        count = "clips not counted"
        if self.num_clips is not None:
            count = f"{self.num_clips} clips"
        text = f"{count} in {self.num_files} files, "
        if self.seconds is None or self.pass_seconds is None:
            return f"{text}hours unknown"
        about = "" if self.is_exact else "about "
        text += about + _format_time(self.seconds)
        if self.pass_seconds > 0.999 * self.seconds:
            return text
        taken = about + _format_time(self.pass_seconds)
        return f"{text}; a pass takes {taken}, another part of each long clip"


def _format_time(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def survey_shards(shards: list[Shard], clip_seconds: float) -> Survey:
    """Refuse local shards without clips, and tell how much sound there is.

    Of a parquet file the metadata is read, of a tar file the headers and the
    first clips. What is remote is not looked at.
    """
    end = time.monotonic() + MAX_TIME
    files = [shard for shard in shards if is_clip_name(shard_path(shard))]
    packed = [shard for shard in shards if not is_clip_name(shard_path(shard))]
    lengths = _measure_files(files, end)
    counts: list[Optional[int]] = [len(files)]
    counts += [None] * sum(map(is_remote, packed))
    known: list[Optional[float]] = [None] * bool(files)
    looks = max(MAX_LOOKS // max(len(packed), 1), 1)
    problems = []
    for shard, entry in find_entries(packed).items():
        known.append(entry.get("seconds"))
        try:
            lengths += _look_into(shard, looks)
            in_time = time.monotonic() < end
            counts.append(count_clips(shard) if entry or in_time else None)
        except (ValueError, OSError) as error:
            problems.append(
                f"The shard {shard} holds no clip ({error}): make or download "
                "it again, or take it out of the list of shards."
            )
    if problems:
        raise ValueError("\n".join(problems))
    num_clips = None if None in counts else sum(counts)
    lengths = [length for length in lengths if length is not None]
    seconds = pass_seconds = None
    if num_clips is not None and lengths:
        scale = num_clips / len(lengths)
        seconds = sum(known) if None not in known else scale * sum(lengths)
        pass_seconds = scale * sum(min(s, clip_seconds) for s in lengths)
    num_files = len(set(map(shard_path, shards)))
    is_exact = num_clips == len(lengths)
    return Survey(num_files, num_clips, seconds, pass_seconds, is_exact)


def measure_clip(clip: Member) -> Optional[float]:
    """Read the seconds of a clip off its header; None if it does not tell."""
    try:
        with open_clip(clip.data) as file:
            end = file.frames if clip.stop is None else clip.stop
            end = min(end, file.frames)
            known = clip.start < end < UNKNOWN_LENGTH
            return (end - clip.start) / file.samplerate if known else None
    except (ValueError, OSError):
        return None


def _measure_files(files, end):
    """Measure local audio files; of very many, some drawn at random."""
    files = [shard for shard in files if not is_remote(shard_path(shard))]
    if len(files) > MAX_FILES:
        files = random.Random(0).sample(files, MAX_FILES)
    lengths = []
    for shard in files:
        lengths += map(measure_clip, iterate_members(shard))
        if time.monotonic() > end:
            break
    if files and not any(lengths):
        raise ValueError(
            f"None of the {len(lengths)} audio files looked at can be read, "
            f"the first is {shard_name(files[0])}: check the paths, and give "
            "FLAC, WAV, Ogg or MP3 files."
        )
    return lengths


def _look_into(shard, num_clips):
    """Measure the first clips of a tar file; refuse a shard without any."""
    if suffix_of(shard) == ".parquet":
        if not count_clips(shard):
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


def count_clips(shard: Shard) -> Optional[int]:
    """Count the clips of a shard by manifest or headers; None if remote."""
    if is_clip_name(shard_path(shard)):
        return 1
    if is_remote(shard):
        return None
    if entry := find_entry(shard):
        return entry["clips"]
    with open_url(shard) as file:
        if suffix_of(shard) == ".parquet":
            return open_table(file).metadata.num_rows
        names: list[str] = []
        for _ in walk_tar(file, lambda name: bool(names.append(name)), 0):
            pass  # damage; no member is wanted
        return sum(map(is_clip_name, names))


def hold_out(
    spec: Union[str, list[str]],
    num_clips: int,
    clip_seconds: float,
    data_root: Optional[str] = None,
) -> tuple[list[Shard], list[Shard]]:
    """Split a setting into shards to train on and shards to validate on.

    Of audio files those are held out whose names have the smallest hashes,
    so files that are added later move few; segments of a file stay together.
    A long one counts as up to 16 clips, parts that lie evenly. Of tar and
    parquet files the last ones are held out. More than half is refused.
    """
    if type(num_clips) is not int or num_clips < 1:
        raise ValueError(
            f"num_valid_clips must be a number, 1 or more, got {num_clips}: "
            "the loss on held-out clips is how a run is judged."
        )
    named = name_shards(spec, data_root)
    if all(is_clip_name(shard_path(shard)) for shard, _ in named):
        return _choose_files(named, num_clips, clip_seconds)
    shards = [shard for shard, _ in named]
    first = _choose_shards(shards, num_clips)
    return shards[:first], shards[first:]


def _choose_files(named, num_clips, clip_seconds):
    """Hold out files that together hold so many clips."""
    files: dict[str, list[Shard]] = {}
    for shard, name in named:
        files.setdefault(name, []).append(shard)
    held, num_held, parts = set(), 0, []

    def hash_name(name):
        return hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), name

    for name in sorted(files, key=hash_name):
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
            f"out num_valid_clips={num_clips} for validation (at most half of "
            f"them and {MAX_PARTS} parts of a long one): give a smaller "
            "num_valid_clips, or other clips as valid_shards."
        )
    return [shard for shard, name in named if name not in held], parts


def _cut_parts(shard, clip_seconds, max_parts):
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


def _choose_shards(shards: list[Shard], num_clips: int) -> int:
    """Give the index of the first shard that is held out."""
    if len(shards) == 1:
        raise ValueError(
            "One shard cannot be split into training and validation: give "
            "valid_shards, or smaller shards (audioset_prepare.py "
            "--clips_per_shard)."
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
            f"{total} clips, too few to hold out num_valid_clips={num_clips}: "
            "give a smaller num_valid_clips, valid_shards, or smaller shards "
            "(audioset_prepare.py --clips_per_shard)."
        )
    return first


def describe_shards(shards: Iterable[Union[str, tuple]]) -> str:
    """Describe files, urls and segments: number, names, bytes, fingerprint.

    Files count by name and hash in their manifest; without one by name, size
    and content. Where they have more than 1 GiB together, that is beginning,
    middle and end of up to 64 of them. Their folder does not count.
    """
    parts = [[s] if isinstance(s, str) else list(s) for s in shards]
    names = dict.fromkeys(name for name, *_ in parts)
    sizes = {n: Path(n).stat().st_size for n in names if not is_remote(n)}
    total = sum(sizes.values())
    every = math.ceil(len(sizes) / MOST_LOOKS) if total > MAX_HASHED else 0
    files: dict[str, list] = {}
    for number, (name, entry) in enumerate(find_entries(names).items()):
        path, size = Path(name), sizes[name]
        content = entry.get("sha256")
        if content is None and not every:
            content = hash_file(path)
        elif content is None and number % every == 0:
            content = _hash_parts(path, size)
        files[name] = [path.name, size, content]
    rows = [[*files.get(name, [name]), *part] for name, *part in parts]
    ends = [name.rsplit("/", 1)[-1] for name, *_ in (parts[0], parts[-1])]
    return (
        f"{len(names)} files, {' to '.join(dict.fromkeys(ends))}, "
        f"{total:,} bytes, {fingerprint(rows)[:16]}"
    )


def _hash_parts(path: Path, size: int) -> str:
    """Hash beginning, middle and end of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for place in (0, size // 2, max(size - LOOK, 0)):
            file.seek(place)
            digest.update(file.read(LOOK))
    return digest.hexdigest()
