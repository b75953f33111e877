"""How many 10 s clips per second does one core read from shards?

Makes tar shards of FLAC clips in a temporary folder (decaying tones over
pink noise, which FLAC packs about as well as music), reads them through
``ClipStream``, and times each step of the way on its own. To run:

    python benchmarks/data.py
    python benchmarks/data.py --seconds 30 --shards '/data/shard-{000..009}.tar'

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from speechbrain_wavjepa.dataio import ClipStream
from speechbrain_wavjepa.dataio.clips import decode_clip
from speechbrain_wavjepa.processing import audio

CLIP_SECONDS = 10
CLIPS_PER_SHARD = 24
SAMPLE_RATE = 16000
# rate, channels, clips/s of one core that we want to reach
SOURCES = ((16000, 1, 500), (44100, 2, 100), (48000, 2, None))


def make_clip(rate, channels, generator):
    """Make pseudo-music [T, C]: decaying tones over pink noise."""
    num_samples = rate * CLIP_SECONDS
    waveform = np.zeros((num_samples, channels))
    length = rate  # a tone rings for a second
    time_axis = np.arange(length) / rate
    for _ in range(40):
        start = generator.integers(num_samples - length)
        pitch = generator.uniform(80, 3000)
        tone = np.exp(-4 * time_axis) * np.sin(2 * np.pi * pitch * time_axis)
        gains = generator.uniform(0, 0.15, channels)
        waveform[start : start + length] += tone[:, None] * gains
    spectrum = np.fft.rfft(
        generator.standard_normal((channels, num_samples)), axis=1
    )
    spectrum /= np.sqrt(1 + np.arange(spectrum.shape[1]))
    noise = np.fft.irfft(spectrum, num_samples, axis=1).T
    shared = noise.mean(axis=1, keepdims=True)
    noise = 0.8 * shared + 0.2 * noise  # channels of music resemble each other
    return 0.9 * (waveform + 0.02 * noise / noise.std()) / 2


def write_shard(path, rate, channels):
    """Write a shard; return its clips as FLAC bytes."""
    generator = np.random.default_rng(0)
    clips = []
    with tarfile.open(path, "w") as tar:
        for number in range(CLIPS_PER_SHARD):
            file = io.BytesIO()
            clip = make_clip(rate, channels, generator)
            soundfile.write(file, clip, rate, format="FLAC")
            clips.append(file.getvalue())
            header = tarfile.TarInfo(f"{number:06d}.flac")
            header.size = len(clips[-1])
            tar.addfile(header, io.BytesIO(clips[-1]))
    return clips


def time_steps(clips, rate, seconds):
    """Time decoding, resampling and level, interleaved; medians in s."""
    times = {"decode": [], "resample": [], "level": [], "all three": []}
    audio.resample(torch.zeros(rate, 1), rate, SAMPLE_RATE)  # makes the filter
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for clip in clips:
            start = time.perf_counter()
            with soundfile.SoundFile(io.BytesIO(clip)) as file:
                decoded = file.read(dtype="float32", always_2d=True)
            decode_end = time.perf_counter()
            waveform = torch.from_numpy(decoded)[:, :1]
            waveform = audio.resample(waveform, rate, SAMPLE_RATE)
            resample_end = time.perf_counter()
            audio.rms_normalize(waveform)
            level_end = time.perf_counter()
            decode_clip(clip)
            times["decode"].append(decode_end - start)
            times["resample"].append(resample_end - decode_end)
            times["level"].append(level_end - resample_end)
            times["all three"].append(time.perf_counter() - level_end)
    return {name: statistics.median(values) for name, values in times.items()}


def time_stream(shards, seconds):
    """Read clips through ClipStream; median clips/s of slices of 20 clips."""
    stream = iter(ClipStream(shards, shuffle_buffer=CLIPS_PER_SHARD))
    next(stream)
    rates = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(CLIPS_PER_SHARD):
            next(stream)
        rates.append(CLIPS_PER_SHARD / (time.perf_counter() - start))
    return statistics.median(rates)


def main():
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=5, help="for each measurement"
    )
    parser.add_argument("--shards", help="shards of your own, read as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| source | KB per clip | decode ms | resample ms | level ms "
        "| all three, clips/s | from the shard, clips/s | goal |"
    )
    print("|" + "---|" * 8)
    with tempfile.TemporaryDirectory() as folder:
        for rate, channels, goal in SOURCES:
            shard = Path(folder) / f"{rate}-{channels}.tar"
            clips = write_shard(shard, rate, channels)
            size = statistics.mean(len(clip) for clip in clips) / 1000
            times = time_steps(clips, rate, options.seconds)
            print(
                f"| FLAC {rate} Hz, {channels} ch | {size:.0f} "
                f"| {1000 * times['decode']:.2f} "
                f"| {1000 * times['resample']:.2f} "
                f"| {1000 * times['level']:.2f} "
                f"| {1 / times['all three']:.0f} "
                f"| {time_stream(str(shard), options.seconds):.0f} "
                f"| {goal or '-'} |"
            )
    if options.shards:
        speed = time_stream(options.shards, options.seconds)
        print(f"| {options.shards} | - | - | - | - | - | {speed:.0f} | - |")


if __name__ == "__main__":
    main()
