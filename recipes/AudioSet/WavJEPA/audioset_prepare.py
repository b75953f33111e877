#!/usr/bin/env python3
"""Make tar shards of FLAC clips out of a folder of AudioSet clips.

To make shards (the same command takes up a run that was stopped):
> python audioset_prepare.py --input CLIPS --output SHARDS --sample_rate 16000

To check shards, these or others:
> python audioset_prepare.py --check SHARDS

A shard holds ``KEY.flac`` and ``KEY.json`` of each clip. ``manifest.json``
beside the shards has the count, size and hash of each, and the clips that
could not be read. The same clips and settings give the same bytes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import functools
import hashlib
import math
import os
import sys
from pathlib import Path

import soundfile
from shard_check import check_shards, clip_pool, find_change, read_whole
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import open_clip
from speechbrain_wavjepa.dataio.members import MAX_MEMBER_BYTES
from speechbrain_wavjepa.dataio.shards import AUDIO_SUFFIXES, printable
from speechbrain_wavjepa.dataio.shards import find_clips as list_clips
from speechbrain_wavjepa.dataio.writer import (
    MANIFEST_NAME,
    encode_flac,
    read_manifest,
    write_manifest,
    write_shard,
)
from speechbrain_wavjepa.processing import resample
from speechbrain_wavjepa.utils.experiment import run_script
from speechbrain_wavjepa.utils.files import claim, hold, path_inside
from speechbrain_wavjepa.utils.processes import count_cores

MAX_CLIPS, MIN_SHARDS = 2000, 16
FINE_SUBTYPES = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
NAMES_PRINTED = 20


def prepare_audioset(
    input_folder,
    output_folder,
    clips_per_shard=None,
    sample_rate=None,
    num_workers=0,
):
    """Write the shards of a folder that are not there yet; give the manifest.

    By default 2000 clips make a shard, or fewer if that gave less than 16
    shards, which training splits among processes, workers and validation,
    and clips keep their rate.
    """
    if clips_per_shard is not None and clips_per_shard < 1:
        raise ValueError(
            f"--clips_per_shard must be 1 or more, got {clips_per_shard}."
        )
    if sample_rate is not None and not 1000 <= sample_rate <= 192000:
        raise ValueError(
            "--sample_rate must lie between 1000 and 192000, got "
            f"{sample_rate}; leave it out to keep each clip's own."
        )
    folder, output = Path(input_folder), Path(output_folder)
    clips = list(find_clips(folder).items())
    if clips_per_shard is None:
        clips_per_shard = min(MAX_CLIPS, math.ceil(len(clips) / MIN_SHARDS))
    settings = {
        "clips_per_shard": clips_per_shard,
        "sample_rate": sample_rate,
        "num_files": len(clips),
        "files_sha256": hash_listing(folder, clips),
    }
    encode = functools.partial(encode_clip, folder, sample_rate)
    bar = tqdm(total=len(clips), unit=" clips", dynamic_ncols=True)
    with hold(output), bar, clip_pool(num_workers) as mapping:
        manifest = open_manifest(output, settings)
        number = first = 0
        while first < len(clips):
            shard = output / f"shard-{number:06d}.tar"
            entry = manifest["shards"].get(shard.name)
            if entry is not None and not find_change(shard, entry):
                bar.update(entry["num_files"])
            else:
                unreadable, seconds = {}, []
                encoded = fill_shard(
                    *(mapping, encode, clips[first:], clips_per_shard),
                    *(unreadable, seconds, bar),
                )
                entry = write_shard(shard, encoded)
                entry["seconds"] = round(math.fsum(seconds), 3)
                entry["num_files"] = entry["clips"] + len(unreadable)
                manifest["unreadable"].update(unreadable)
                if entry["clips"]:
                    manifest["shards"][shard.name] = entry
                write_manifest(output, manifest)
            first += entry["num_files"]
            number += 1
    return manifest


def find_clips(folder):
    """Map the key of each clip below a folder to its path, sorted."""
    if not folder.is_dir():
        raise ValueError(f"--input {folder} is no folder.")
    names = sorted(
        Path(path).relative_to(folder).as_posix() for path in list_clips(folder)
    )
    if not names:
        raise ValueError(
            f"--input {folder} holds no {', '.join(AUDIO_SUFFIXES)} file."
        )
    clips = {}
    for name in names:
        # other readers of such shards end the key at the first dot
        stem = Path(name).stem.replace(".", "_")
        key = Path(name).with_name(stem).as_posix()
        if key in clips:
            raise ValueError(
                f"{clips[key]} and {name} in {folder} would share the key "
                f"{key}: rename or remove one of them."
            )
        clips[key] = name
    return clips


def hash_listing(folder, clips):
    """Hash names, sizes and times of the input, to notice when it changes.

    Reading it all again would take as long as making the shards.
    """
    digest = hashlib.sha256()
    for _, name in clips:
        path = folder / name
        found = path.stat() if path.is_file() else None
        state = found and (found.st_size, found.st_mtime_ns)
        digest.update(os.fsencode(f"{name} {state}\n"))
    return digest.hexdigest()


def open_manifest(output, settings):
    """Read the manifest of a run that was stopped, or begin a new one."""
    claim(output, settings)
    manifest = read_manifest(output)
    if not manifest:
        if (output / MANIFEST_NAME).exists():
            raise ValueError(
                f"{output / MANIFEST_NAME} is damaged: choose another output "
                "folder."
            )
        manifest = {"shards": {}, "unreadable": {}}
        write_manifest(output, manifest)
    return manifest


def fill_shard(
    mapping, encode, clips, clips_per_shard, unreadable, seconds, bar
):
    """Yield encoded clips until a shard is full; note lengths and bad clips."""
    first = num_good = 0
    while num_good < clips_per_shard and first < len(clips):
        batch = clips[first : first + clips_per_shard - num_good]
        for key, name, data, metadata in mapping(encode, batch):
            bar.update()
            if data is None:
                unreadable[name] = metadata
                continue
            num_good += 1
            seconds.append(metadata["num_samples"] / metadata["sample_rate"])
            yield key, data, metadata
        first += len(batch)


def encode_clip(folder, sample_rate, clip):
    """Read a clip and make it FLAC: key, name, data or None, metadata."""
    key, name = clip
    try:
        path = str(path_inside(folder, name))
        waveform, rate = read_whole(path)  # [T, C]
        if waveform.shape[1] > 8:
            raise ValueError(f"{waveform.shape[1]} channels; FLAC holds 8")
        new_rate = sample_rate or rate
        num_samples = math.ceil(len(waveform) * new_rate / rate)
        with open_clip(path) as file:
            kind, subtype = file.format, file.subtype
        if kind == "FLAC" and new_rate == rate:
            data = Path(path).read_bytes()
        else:
            samples = resample(waveform, rate, new_rate).numpy()
            if new_rate == rate and subtype.startswith("PCM"):
                # integers stay what they are
                samples, _ = soundfile.read(os.fsencode(path), dtype="int32")
            subtype = "PCM_24" if subtype in FINE_SUBTYPES else "PCM_16"
            data = encode_flac(samples, new_rate, subtype)
        if len(data) > MAX_MEMBER_BYTES:
            raise ValueError(f"{len(data)} bytes, over {MAX_MEMBER_BYTES}")
    except (ValueError, OSError, soundfile.SoundFileError) as error:
        return key, name, None, str(error)
    metadata = {
        "key": key,
        "source": name,
        "sample_rate": new_rate,
        "channels": waveform.shape[1],
        "num_samples": num_samples,
    }
    return key, name, data, metadata


def main(arguments=None):
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--input", help="folder of clips, nested as you like")
    parser.add_argument("--output", help="folder for shards and manifest")
    parser.add_argument(
        "--clips_per_shard",
        type=int,
        help="default: 2000, or fewer for at least 16 shards",
    )
    parser.add_argument("--sample_rate", type=int, help="default: as it is")
    parser.add_argument("--num_workers", type=int, default=count_cores())
    parser.add_argument("--check", metavar="SHARDS", help="check shards")
    options = parser.parse_args(arguments)
    if bool(options.check) == bool(options.input and options.output):
        parser.error("give --input and --output, or --check")
    return run_script(lambda: run(options))


def run(options):
    """Make shards or check some; returns the exit code."""
    if options.check:
        return int(check_shards(options.check, options.num_workers) > 0)
    try:
        manifest = prepare_audioset(
            options.input,
            options.output,
            options.clips_per_shard,
            options.sample_rate,
            options.num_workers,
        )
    except OSError as error:
        raise OSError(
            f"{str(error).rstrip('.')}. Finished shards are kept; mend it "
            "and run the same command again."
        ) from error
    return report(manifest)


def report(manifest):
    """Print what was made; the exit code is 1 if that is nothing."""
    unreadable = manifest["unreadable"]
    for name, reason in list(unreadable.items())[:NAMES_PRINTED]:
        print(printable(f"Left out {name}: {reason}"))
    shards = manifest["shards"].values()
    num_clips = sum(entry["clips"] for entry in shards)
    size = sum(entry["bytes"] for entry in shards) / 1e9
    hours = sum(entry.get("seconds", 0) for entry in shards) / 3600
    print(
        f"{num_clips} clips in {len(shards)} shards ({size:.3f} GB, "
        f"{hours:.2f} hours), "
        f"{len(unreadable)} clips left out (see {MANIFEST_NAME})"
    )
    return int(num_clips == 0)


if __name__ == "__main__":
    sys.exit(main())
