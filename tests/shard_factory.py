"""Makes clips and shards for the tests of the data path."""

import io
import tarfile

import numpy as np
import soundfile


def make_clip(seed, seconds=0.1, rate=16000, channels=1, **options):
    """Encode noise that depends on the seed, FLAC unless told otherwise."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((round(seconds * rate), channels)) / 8
    file = io.BytesIO()
    soundfile.write(file, noise, rate, **{"format": "FLAC", **options})
    return file.getvalue()


def encode(waveform, rate=16000, **options):
    """Encode a waveform, FLAC unless told otherwise."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, **{"format": "FLAC", **options})
    return file.getvalue()


def write_tar(path, members, **options):
    """Write (name, data) pairs as a tar file; return their header offsets."""
    offsets = {}
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            offsets[name] = tar.offset
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return offsets


def write_shards(folder, counts, **options):
    """Write a shard for each count; give the names of all clips."""
    names = []
    for shard, count in enumerate(counts):
        members = []
        for number in range(count):
            name = f"{shard}-{number}.flac"
            members.append((name, make_clip(100 * shard + number, **options)))
            members.append((f"{shard}-{number}.json", b"{}"))
            names.append(name)
        write_tar(folder / f"shard-{shard:06d}.tar", members)
    return names
