"""Check shards: hashes, counts, and whether every clip can be decoded.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_wavjepa.dataio import expand_shards
from speechbrain_wavjepa.dataio.clips import (
    open_clip,
    read_pieces,
    read_waveform,
)
from speechbrain_wavjepa.dataio.members import iterate_members
from speechbrain_wavjepa.dataio.shards import printable, shard_name, shard_path
from speechbrain_wavjepa.dataio.writer import (
    MANIFEST_NAME,
    find_entry,
    read_manifest,
)
from speechbrain_wavjepa.utils.files import hash_file, path_inside
from speechbrain_wavjepa.utils.processes import worker_map

MAX_SECONDS = 600  # a longer file is no clip
MAX_VALUES = 2**28  # decoded at once, 1 GiB


# a map over clips or shards, in their order, by processes of one thread each
clip_pool = functools.partial(
    worker_map, initializer=functools.partial(torch.set_num_threads, 1)
)


def read_whole(data):
    """Decode a clip, bytes or a path, to its end: waveform [T, C] and rate."""
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


def find_change(shard: Path, entry: dict) -> str:
    """Say how a shard differs from its entry in the manifest; "" if not."""
    if not shard.is_file():
        return "it is missing"
    size = shard.stat().st_size
    if size != entry["bytes"]:
        return f"{size} bytes, where the manifest has {entry['bytes']}"
    if hash_file(shard) != entry["sha256"]:
        return "its sha256 is not that of the manifest"
    return ""


def check_clip(clip):
    """Decode a member to its end, in constant memory."""
    if clip.problem:
        raise ValueError(clip.problem)
    with open_clip(clip.data) as file:
        if clip.start:
            file.seek(clip.start)
        end = min(clip.stop or file.frames, file.frames)
        for piece in read_pieces(file, clip.start, end - clip.start):
            if not np.isfinite(piece).all():
                raise ValueError("it holds values that are not finite")


def check_shard(shard):
    """Compare a shard with its manifest, if it has one, and decode all.

    Gives the clips that can be read, and what is wrong ("" if nothing is).
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


def check_shards(spec, num_workers=0):
    """Check a setting of shards; print and count the bad ones."""
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
    with bar, clip_pool(num_workers) as mapping:
        checked = mapping(check_shard, shards)
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
