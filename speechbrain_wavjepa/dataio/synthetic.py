"""A procedural, labelled corpus of sounds for the runs without a download.

Every clip is a pure function of the seed and its index: a sound of one
class at a random place in the clip, over coloured background noise, at a
random level. Classes come in pairs that share their long-term spectrum and
differ in time: what rises and what falls, what is steady and what is
modulated, what is regular and what is not. Pitch, tempo and timbre vary
widely within a class.

Shapes: n clips, T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.dataio.writer import encode_flac, write_shard
from speechbrain_wavjepa.utils.files import claim, hold

# Every maker of sounds takes a generator, samples and a rate, and gives [T].


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _swing(random, num_samples, rate, low, high):
    """Make a sine of a random frequency in Hz: how something is modulated."""
    time = np.arange(num_samples) / rate
    return np.sin(2 * np.pi * random.uniform(low, high) * time)


def _oscillate(random, frequency, rate):
    """Sum harmonics of a frequency [T] that may change; timbre is random."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    slope = random.uniform(0.5, 2.0)
    wave = np.zeros_like(phase)
    for harmonic in range(1, random.integers(2, 9)):
        if harmonic * frequency.max() < 0.45 * rate:
            start = random.uniform(0, 2 * np.pi)
            wave += np.sin(harmonic * phase + start) / harmonic**slope
    return wave


def _band_noise(random, num_samples, rate):
    """Make noise around a random centre, one half to two octaves wide."""
    centre = _log_uniform(random, 300, 5000)
    width = random.uniform(0.25, 1.0)
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / rate)
    octaves = np.log2(np.maximum(frequency, 1) / centre)
    gain = np.exp(-0.5 * (octaves / width) ** 2)
    return np.fft.irfft(spectrum * gain, num_samples)


def _repeat(random, num_samples, rate, regular, make):
    """Add sounds at 3 to 12 onsets in a second, evenly spaced or scattered."""
    tempo = _log_uniform(random, 3, 12)
    count = max(2, int(tempo * num_samples / rate))
    if regular:
        starts = (np.arange(count) * num_samples / count).astype(int)
    else:
        starts = np.sort(random.integers(0, num_samples, count))
    wave = np.zeros(num_samples)
    for start in starts:
        sound = make()[: num_samples - start]
        wave[start : start + len(sound)] += sound
    return wave


def _decay(random, length, rate, low, high):
    """Make an envelope that falls within a random time."""
    return np.exp(-np.arange(length) / (rate * random.uniform(low, high)))


def _steady_tone(random, num_samples, rate):
    frequency = np.full(num_samples, _log_uniform(random, 100, 1600))
    return _oscillate(random, frequency, rate)


def _vibrato_tone(random, num_samples, rate):
    depth = random.uniform(0.04, 0.12)
    swing = _swing(random, num_samples, rate, 4, 9)
    centre = _log_uniform(random, 100, 1600)
    return _oscillate(random, centre * (1 + depth * swing), rate)


def _tremolo_tone(random, num_samples, rate):
    swing = _swing(random, num_samples, rate, 4, 9)
    return _steady_tone(random, num_samples, rate) * (1 + 0.9 * swing)


def _sweep(random, num_samples, rate, rising):
    low = _log_uniform(random, 100, 800)
    high = low * random.uniform(2, 5)
    count = random.integers(1, 7)
    ramp = (np.arange(num_samples) * count / num_samples) % 1.0
    ramp = ramp if rising else 1 - ramp
    return _oscillate(random, low * (high / low) ** ramp, rate)


def _siren(random, num_samples, rate):
    swing = _swing(random, num_samples, rate, 0.5, 2)
    ratio = random.uniform(1.4, 2.2)
    centre = _log_uniform(random, 200, 1600)
    return _oscillate(random, centre * ratio**swing, rate)


def _gusty_noise(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    tempo = random.uniform(2, 8)
    phase = random.uniform(0, 2 * np.pi)
    gusts = np.maximum(np.sin(2 * np.pi * tempo * time + phase), 0) ** 2
    return _band_noise(random, num_samples, rate) * (0.05 + gusts)


def _hits(random, num_samples, rate, regular):
    length = int(rate * 0.3)
    decay = _decay(random, length, rate, 0.01, 0.06)
    sound = _band_noise(random, length, rate) * decay

    def hit():
        return random.uniform(0.6, 1.0) * sound

    return _repeat(random, num_samples, rate, regular, hit)


def _plucks(random, num_samples, rate):
    length = int(rate * 0.6)
    decay = _decay(random, length, rate, 0.05, 0.2)
    root = _log_uniform(random, 100, 800)

    def pluck():
        frequency = np.full(length, root * 2 ** (random.integers(0, 13) / 12))
        return _oscillate(random, frequency, rate) * decay

    return _repeat(random, num_samples, rate, True, pluck)


def _formants(random, wave, rate):
    """Shape a source by four resonances that move between two vowels."""
    spectrum = np.fft.rfft(wave)
    frequency = np.fft.rfftfreq(len(wave), 1 / rate)
    scale = random.uniform(0.85, 1.2)
    shaped = []
    for _ in range(2):
        centres = (
            random.uniform(280, 850),
            random.uniform(900, 2400),
            2700,
            3600,
        )
        gain = sum(
            1 / (1 + ((frequency - scale * centre) / width) ** 2)
            for centre, width in zip(centres, (60, 90, 140, 200), strict=True)
        )
        shaped.append(np.fft.irfft(spectrum * gain, len(wave)))
    mix = 0.5 + 0.5 * _swing(random, len(wave), rate, 2, 5)
    return mix * shaped[0] + (1 - mix) * shaped[1]


def _voice(random, num_samples, rate):
    drift = 1 + 0.1 * _swing(random, num_samples, rate, 0.3, 3)
    pitch = _log_uniform(random, 80, 350) * drift
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0.0)
    return _formants(random, pulses, rate)


def _whisper(random, num_samples, rate):
    return _formants(random, random.standard_normal(num_samples), rate)


def _tweets(random, num_samples, rate):
    length = int(rate * random.uniform(0.05, 0.15))
    window = np.hanning(length)

    def tweet():
        ends = np.log([_log_uniform(random, 1500, 6000) for _ in range(2)])
        phase = 2 * np.pi * np.cumsum(np.exp(np.linspace(*ends, length))) / rate
        return np.sin(phase) * window

    return _repeat(random, num_samples, rate, False, tweet)


def _ring(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    carrier = _log_uniform(random, 300, 2500)
    ratio = random.choice([1.41, 1.73, 2.76, 3.14])
    index = random.uniform(1, 5) * np.exp(-time / random.uniform(0.5, 2))
    inner = np.sin(2 * np.pi * carrier / ratio * time)
    return np.sin(2 * np.pi * carrier * time + index * inner)


SOUNDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "steady tone": _steady_tone,
    "vibrato tone": _vibrato_tone,
    "tremolo tone": _tremolo_tone,
    "rising sweep": functools.partial(_sweep, rising=True),
    "falling sweep": functools.partial(_sweep, rising=False),
    "siren": _siren,
    "steady noise": _band_noise,
    "gusty noise": _gusty_noise,
    "regular hits": functools.partial(_hits, regular=True),
    "scattered hits": functools.partial(_hits, regular=False),
    "plucks": _plucks,
    "voice": _voice,
    "whisper": _whisper,
    "tweets": _tweets,
    "ring": _ring,
}
CLASSES = tuple(SOUNDS)


class SyntheticCorpus:
    """A corpus of labelled synthetic clips.

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

    Raises
    ------
    ValueError
        If there are no clips, or they are too short or too low in rate to
        tell the classes apart.

    Example
    -------
    >>> corpus = SyntheticCorpus(num_clips=30, seed=7)
    >>> waveform, label = corpus[4]
    >>> waveform.shape, CLASSES[label]
    (torch.Size([32160]), 'falling sweep')
    """

    def __init__(
        self,
        num_clips: int,
        clip_seconds: float = 2.01,
        sample_rate: int = 16000,
        seed: int = 0,
    ):
        if num_clips < 1 or clip_seconds < 1 or sample_rate < 16000:
            raise ValueError(
                "A synthetic corpus needs clips of a second or more at 16,000 "
                f"Hz or more, got num_clips={num_clips}, clip_seconds="
                f"{clip_seconds}, sample_rate={sample_rate}."
            )
        self.num_clips = num_clips
        self.clip_seconds = clip_seconds
        self.sample_rate = sample_rate
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.num_clips

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Make one clip [T] and its class."""
        if not 0 <= index < self.num_clips:
            raise IndexError(f"Clip {index} of {self.num_clips}.")
        random = np.random.default_rng([self.seed, index])
        label = index % len(CLASSES)
        num_samples = round(self.clip_seconds * self.sample_rate)
        length = int(num_samples * random.uniform(0.6, 1.0))
        sound = SOUNDS[CLASSES[label]](random, length, self.sample_rate)
        fade = np.minimum(1, np.arange(1, length + 1) / (0.01 * length))
        sound = sound * fade * fade[::-1]
        sound = sound / (np.sqrt(np.mean(sound**2)) + 1e-9)
        clip = self._background(random, num_samples)
        clip *= 10 ** (-random.uniform(5, 25) / 20)
        start = random.integers(0, num_samples - length + 1)
        clip[start : start + length] += sound
        clip *= 10 ** (-random.uniform(0, 20) / 20) / np.abs(clip).max()
        return torch.from_numpy(clip.astype(np.float32)), label

    def _background(
        self, random: np.random.Generator, num_samples: int
    ) -> np.ndarray:
        """Make noise whose power falls by 0 to 6 dB in an octave."""
        spectrum = np.fft.rfft(random.standard_normal(num_samples))
        frequency = np.fft.rfftfreq(num_samples, 1 / self.sample_rate)
        gain = np.maximum(frequency, 50) ** -random.uniform(0, 1)
        noise = np.fft.irfft(spectrum * gain, num_samples)
        return noise / np.sqrt(np.mean(noise**2))

    def load(self) -> tuple[Tensor, Tensor]:
        """Make all clips: waveform [n, T, 1] and labels [n]."""
        indices = tqdm(range(len(self)), desc="labelled sounds", leave=False)
        clips, labels = zip(*map(self.__getitem__, indices), strict=True)
        return torch.stack(clips)[:, :, None], torch.tensor(labels)

    def write_shards(
        self, folder: Union[str, Path], clips_per_shard: int = 100
    ) -> None:
        """Write tar shards of FLAC clips; whole shards there are kept.

        Raises ValueError if the folder is in use or holds something else, or
        a shard is to have no clips.
        """
        if clips_per_shard < 1:
            raise ValueError(
                f"clips_per_shard must be 1 or more, got {clips_per_shard}."
            )
        folder = Path(folder)
        made_with = {
            "corpus": "synthetic",
            "num_clips": self.num_clips,
            "clip_seconds": self.clip_seconds,
            "sample_rate": self.sample_rate,
            "seed": self.seed,
            "clips_per_shard": clips_per_shard,
            "classes": list(CLASSES),
        }
        way_out = "choose another folder for the sounds, or delete this one"
        starts = range(0, self.num_clips, clips_per_shard)
        shards = {
            folder / f"shard-{number:06d}.tar": start
            for number, start in enumerate(starts)
        }
        if all(path.exists() for path in shards):
            claim(folder, made_with, way_out)
            return  # other runs may read it at the same time
        with hold(folder):
            claim(folder, made_with, way_out)
            for path, start in tqdm(
                shards.items(), desc="synthetic corpus", unit=" shards"
            ):
                if not path.exists():
                    stop = min(start + clips_per_shard, self.num_clips)
                    write_shard(path, map(self._encode, range(start, stop)))

    def _encode(self, index: int) -> tuple[str, bytes, dict]:
        """Give the key of a clip, its FLAC file and its class."""
        waveform, label = self[index]
        flac = encode_flac(waveform.numpy(), self.sample_rate)
        return f"{index:06d}", flac, {"label": CLASSES[label]}
