"""Time the mixing of scenes against a loop over positions and ears.

Clips of 10 s at 32 kHz, responses of 2 s, five noise positions. The loop
calls torchaudio's fftconvolve for each ear of each position, as the authors'
released code does. Then the peak of the memory for 32 clips, in a process of
its own.

    python benchmarks/scenes.py
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from torchaudio.functional import fftconvolve

from speechbrain_wavjepa.augment import SceneMixer, SceneParts

SAMPLE_RATE = 32000
NUM_SAMPLES = 10 * SAMPLE_RATE
TAPS = 2 * SAMPLE_RATE
POSITIONS = 5


def make_batch(num_clips, device):
    """Make random clips and parts."""
    generator = torch.Generator().manual_seed(0)
    decay = torch.exp(-torch.arange(TAPS) / (0.05 * SAMPLE_RATE))

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    parts = SceneParts(
        rows=torch.arange(num_clips),
        source_response=draw(num_clips, 2, TAPS) * decay,
        noise_responses=draw(num_clips, POSITIONS, 2, TAPS) * decay,
        noise=draw(num_clips, NUM_SAMPLES),
        noise_span=torch.tensor([[0, NUM_SAMPLES]] * num_clips),
        snr_db=torch.linspace(5, 40, num_clips),
    )
    waveform = draw(num_clips, NUM_SAMPLES, 1)
    return waveform.to(device), parts.to(device)


def mix_in_a_loop(waveform, parts):
    """Mix one clip after the other, one convolution at a time."""
    scenes = []
    for clip, row in enumerate(parts.rows.tolist()):
        ears = []
        source_energy = noise_energy = 0
        for ear in range(2):
            source = fftconvolve(
                waveform[row, :, 0], parts.source_response[clip, ear]
            )[:NUM_SAMPLES]
            noise = torch.zeros_like(source)
            for position in range(POSITIONS):
                noise += fftconvolve(
                    parts.noise[clip],
                    parts.noise_responses[clip, position, ear],
                )[:NUM_SAMPLES]
            source_energy += source.square().sum()
            noise_energy += noise.square().sum()
            ears.append((source, noise))
        wanted = 10 ** (parts.snr_db[clip] / 10)
        gain = (source_energy / noise_energy / wanted).sqrt()
        scenes.append(
            torch.stack([source + gain * noise for source, noise in ears], -1)
        )
    return torch.stack(scenes)


def measure_seconds(function, device):
    """Run a function once; return its seconds and its result."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def print_speed(num_clips, rounds, device):
    """Print the time of a clip both ways, measured in turn."""
    waveform, parts = make_batch(num_clips, device)
    mixer = SceneMixer()
    ours, loop = [], []
    for _ in range(rounds):
        seconds, expected = measure_seconds(
            lambda: mix_in_a_loop(waveform, parts), device
        )
        loop.append(1000 * seconds / num_clips)
        seconds, mixed = measure_seconds(lambda: mixer(waveform, parts), device)
        ours.append(1000 * seconds / num_clips)
    error = (mixed - expected).abs().max() / expected.abs().max()
    ratios = [slow / fast for slow, fast in zip(loop, ours)]
    print("| clips | SceneMixer ms/clip | loop ms/clip | ratio | error |")
    print("|---|---|---|---|---|")
    print(
        f"| {num_clips} | {statistics.median(ours):.1f} "
        f"| {statistics.median(loop):.0f} "
        f"| {statistics.median(ratios):.0f} | {error:.1e} |"
    )
    print(f"\nratio in each round: {min(ratios):.0f} to {max(ratios):.0f}")


def print_memory(num_clips):
    """Print the peak memory of this process after mixing one batch."""
    waveform, parts = make_batch(num_clips, "cpu")
    SceneMixer()(waveform, parts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak /= 2**20 if sys.platform == "darwin" else 2**10  # bytes, or KiB
    print(f"{num_clips} clips, the whole process: {peak:.0f} MiB at most")


def main():
    """Run both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", type=int, help="only this many clips once")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        print_memory(arguments.memory)
        return
    print_speed(arguments.clips, arguments.rounds, arguments.device)
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, "--memory", "32"], check=True)


if __name__ == "__main__":
    main()
