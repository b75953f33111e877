"""A procedural, labelled corpus of sounds for the runs without a download.

Every clip is a pure function of the seed and its index: a sound of one class
at a random place and level over coloured noise. Classes come in pairs that
share their long-term spectrum and differ in time, such as rising and falling.

Shapes: n clips, T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.dataio.writer import encode_flac, write_shard
from speechbrain_wavjepa.utils.files import claim, hold


class _Maker:
    """Makes sounds [T], each of random pitch, tempo and timbre."""

    def __init__(self, random: np.random.Generator, size: int, rate: int):
        self.random, self.uniform = random, random.uniform
        self.size, self.rate, self.time = size, rate, np.arange(size) / rate

    def log_uniform(self, low, high):
        """Draw a number whose logarithm is uniform."""
        return float(np.exp(self.uniform(np.log(low), np.log(high))))

    def swing(self, low, high):
        """Make a sine of a random frequency: how a sound is modulated."""
        return np.sin(2 * np.pi * self.uniform(low, high) * self.time)

    def oscillate(self, frequency):
        """Sum harmonics of a frequency [T] that may change."""
        phase = 2 * np.pi * np.cumsum(frequency) / self.rate
        slope = self.uniform(0.5, 2.0)
        wave = np.zeros_like(phase)
        for harmonic in range(1, self.random.integers(2, 9)):
            if harmonic * frequency.max() < 0.45 * self.rate:
                start = self.uniform(0, 2 * np.pi)
                wave += np.sin(harmonic * phase + start) / harmonic**slope
        return wave

    def noise(self, gain, size=None):
        """Make noise whose spectrum is a function of the frequency in Hz."""
        size = size or self.size
        spectrum = np.fft.rfft(self.random.standard_normal(size))
        frequency = np.fft.rfftfreq(size, 1 / self.rate)
        return np.fft.irfft(spectrum * gain(frequency), size)

    def band_noise(self, size=None):
        """Make noise around a centre, one half to two octaves wide."""
        centre, width = self.log_uniform(300, 5000), self.uniform(0.25, 1.0)

        def gain(frequency):
            octaves = np.log2(np.maximum(frequency, 1) / centre)
            return np.exp(-0.5 * (octaves / width) ** 2)

        return self.noise(gain, size)

    def decay(self, size, low, high):
        """Make an envelope that falls within a random time."""
        return np.exp(-np.arange(size) / (self.rate * self.uniform(low, high)))

    def repeat(self, regular, make):
        """Add sounds, 3 to 12 in a second, evenly spaced or scattered."""
        count = max(2, int(self.log_uniform(3, 12) * self.size / self.rate))
        starts = (np.arange(count) * self.size / count).astype(int)
        if not regular:
            starts = np.sort(self.random.integers(0, self.size, count))
        wave = np.zeros(self.size)
        for start in starts:
            sound = make()[: self.size - start]
            wave[start : start + len(sound)] += sound
        return wave

    def steady_tone(self):
        return self.oscillate(np.full(self.size, self.log_uniform(100, 1600)))

    def vibrato_tone(self):
        depth, swing = self.uniform(0.04, 0.12), self.swing(4, 9)
        return self.oscillate(self.log_uniform(100, 1600) * (1 + depth * swing))

    def tremolo_tone(self):
        return (1 + 0.9 * self.swing(4, 9)) * self.steady_tone()

    def sweep(self, rising):
        low = self.log_uniform(100, 800)
        high = low * self.uniform(2, 5)
        count = self.random.integers(1, 7)
        ramp = (np.arange(self.size) * count / self.size) % 1.0
        ramp = ramp if rising else 1 - ramp
        return self.oscillate(low * (high / low) ** ramp)

    def siren(self):
        swing, ratio = self.swing(0.5, 2), self.uniform(1.4, 2.2)
        return self.oscillate(self.log_uniform(200, 1600) * ratio**swing)

    def gusty_noise(self):
        tempo, phase = self.uniform(2, 8), self.uniform(0, 2 * np.pi)
        gusts = np.sin(2 * np.pi * tempo * self.time + phase)
        return self.band_noise() * (0.05 + np.maximum(gusts, 0) ** 2)

    def hits(self, regular):
        size = int(self.rate * 0.3)
        hit = self.decay(size, 0.01, 0.06) * self.band_noise(size)
        return self.repeat(regular, lambda: self.uniform(0.6, 1.0) * hit)

    def plucks(self):
        size = int(self.rate * 0.6)
        decay, root = self.decay(size, 0.05, 0.2), self.log_uniform(100, 800)

        def pluck():
            note = root * 2 ** (self.random.integers(0, 13) / 12)
            return self.oscillate(np.full(size, note)) * decay

        return self.repeat(True, pluck)

    def speak(self, source):
        """Shape a source by four resonances that move between two vowels."""
        spectrum = np.fft.rfft(source)
        frequency = np.fft.rfftfreq(self.size, 1 / self.rate)
        scale, shaped = self.uniform(0.85, 1.2), []
        for _ in range(2):
            low, high = self.uniform(280, 850), self.uniform(900, 2400)
            formants = (low, 60), (high, 90), (2700, 140), (3600, 200)
            gain = sum(
                1 / (1 + ((frequency - scale * centre) / width) ** 2)
                for centre, width in formants
            )
            shaped.append(np.fft.irfft(spectrum * gain, self.size))
        mix = 0.5 + 0.5 * self.swing(2, 5)
        return mix * shaped[0] + (1 - mix) * shaped[1]

    def voice(self):
        drift = 1 + 0.1 * self.swing(0.3, 3)
        phase = np.cumsum(self.log_uniform(80, 350) * drift) / self.rate
        return self.speak(np.diff(np.floor(phase), prepend=0.0))

    def tweets(self):
        size = int(self.rate * self.uniform(0.05, 0.15))
        window = np.hanning(size)

        def tweet():
            ends = np.log([self.log_uniform(1500, 6000) for _ in range(2)])
            frequency = np.exp(np.linspace(*ends, size))
            phase = 2 * np.pi * np.cumsum(frequency) / self.rate
            return np.sin(phase) * window

        return self.repeat(False, tweet)

    def ring(self):
        carrier = 2 * np.pi * self.log_uniform(300, 2500) * self.time
        ratio = self.random.choice([1.41, 1.73, 2.76, 3.14])
        index = self.uniform(1, 5) * np.exp(-self.time / self.uniform(0.5, 2))
        return np.sin(carrier + index * np.sin(carrier / ratio))


SOUNDS: dict[str, Callable[[_Maker], np.ndarray]] = {
    "steady tone": _Maker.steady_tone,
    "vibrato tone": _Maker.vibrato_tone,
    "tremolo tone": _Maker.tremolo_tone,
    "rising sweep": lambda m: m.sweep(rising=True),
    "falling sweep": lambda m: m.sweep(rising=False),
    "siren": _Maker.siren,
    "steady noise": _Maker.band_noise,
    "gusty noise": _Maker.gusty_noise,
    "regular hits": lambda m: m.hits(regular=True),
    "scattered hits": lambda m: m.hits(regular=False),
    "plucks": _Maker.plucks,
    "voice": _Maker.voice,
    "whisper": lambda m: m.speak(m.random.standard_normal(m.size)),
    "tweets": _Maker.tweets,
    "ring": _Maker.ring,
}
CLASSES = tuple(SOUNDS)


@dataclasses.dataclass
class SyntheticCorpus:
    """A corpus of labelled synthetic clips; the seed says which.

    Arguments
    ---------
    num_clips : int
        How many clips; classes take turns.
    clip_seconds : float
        Length of a clip.
    sample_rate : int
        Rate in Hz, 16,000 at least: some sounds reach up to 6 kHz.
    seed : int
        Clips with another seed are other clips.

    Example
    -------
    >>> corpus = SyntheticCorpus(num_clips=30, seed=7)
    >>> waveform, label = corpus[4]
    >>> waveform.shape, CLASSES[label]
    (torch.Size([32160]), 'falling sweep')
    """

    num_clips: int
    clip_seconds: float = 2.01
    sample_rate: int = 16000
    seed: int = 0

    def __post_init__(self):
        shortest = min(self.num_clips, self.clip_seconds)
        if shortest < 1 or self.sample_rate < 16000:  # classes look alike
            raise ValueError(f"Clips take 1 s and 16,000 Hz at least: {self}.")

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Make one clip [T] and its class."""
        if not 0 <= index < self.num_clips:
            raise IndexError(f"Clip {index} of {self.num_clips}.")
        random = np.random.default_rng([self.seed, index])
        label = index % len(CLASSES)
        num_samples = round(self.clip_seconds * self.sample_rate)
        length = int(num_samples * random.uniform(0.6, 1.0))
        sound = SOUNDS[CLASSES[label]](_Maker(random, length, self.sample_rate))
        fade = np.minimum(1, np.arange(1, length + 1) / (0.01 * length))
        sound = sound * fade * fade[::-1]
        sound = sound / (np.sqrt(np.mean(sound**2)) + 1e-9)
        maker = _Maker(random, num_samples, self.sample_rate)
        # its power falls by 0 to 6 dB in an octave
        clip = maker.noise(lambda f: np.maximum(f, 50) ** -maker.uniform(0, 1))
        clip /= np.sqrt(np.mean(clip**2))
        clip *= 10 ** (-random.uniform(5, 25) / 20)
        start = random.integers(0, num_samples - length + 1)
        clip[start : start + length] += sound
        clip *= 10 ** (-random.uniform(0, 20) / 20) / np.abs(clip).max()
        return torch.from_numpy(clip.astype(np.float32)), label

    def load(self) -> tuple[Tensor, Tensor]:
        """Make all clips: waveform [n, T, 1] and labels [n]."""
        indices = tqdm(range(len(self)), desc="labelled sounds", leave=False)
        clips, labels = zip(*map(self.__getitem__, indices), strict=True)
        return torch.stack(clips)[:, :, None], torch.tensor(labels)

    def write_shards(
        self, folder: Union[str, Path], clips_per_shard: int = 100
    ) -> None:
        """Write tar shards of FLAC clips; whole shards there are kept."""
        if clips_per_shard < 1:
            raise ValueError(f"A shard needs a clip, got {clips_per_shard}.")
        folder = Path(folder)
        made_with = {"corpus": "synthetic", **vars(self), "classes": [*CLASSES]}
        made_with["clips_per_shard"] = clips_per_shard
        starts = range(0, self.num_clips, clips_per_shard)
        paths = [folder / f"shard-{n:06d}.tar" for n in range(len(starts))]
        if all(path.exists() for path in paths):
            claim(folder, made_with)
            return  # other runs may read it at the same time
        with hold(folder):
            claim(folder, made_with)
            bar = tqdm(paths, desc="synthetic corpus", unit=" shards")
            for start, path in zip(starts, bar, strict=True):
                if not path.exists():
                    stop = min(start + clips_per_shard, self.num_clips)
                    write_shard(path, map(self._encode, range(start, stop)))

    def _encode(self, index: int) -> tuple[str, bytes, dict]:
        """Give the key of a clip, its FLAC file and its class."""
        waveform, label = self[index]
        flac = encode_flac(waveform.numpy(), self.sample_rate)
        return f"{index:06d}", flac, {"label": CLASSES[label]}
