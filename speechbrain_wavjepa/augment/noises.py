"""Background noises for scenes: recordings of a folder, or synthetic ones.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238) takes recordings from
WHAMR! (https://arxiv.org/abs/1910.10279).

Shapes: T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch import Tensor

from speechbrain_wavjepa.dataio.clips import (
    UNKNOWN_LENGTH,
    open_clip,
    read_pieces,
)
from speechbrain_wavjepa.dataio.shards import AUDIO_SUFFIXES, is_clip_name
from speechbrain_wavjepa.processing.audio import resample, rms_normalize

MAX_SECONDS = 60.0  # read at once of a longer recording
PARTS = 60  # places at which reading of a longer recording begins


class NoiseFolder:
    """Noise recordings, read one by one; several channels become the first.

    Each recording counts as 60 items: minutes from the beginning to the end
    of a longer one, else 60 times the whole. So each is drawn as often.

    Arguments
    ---------
    folder : str or Path
        A folder of recordings, searched with its subfolders.
    sample_rate : int
        Rate in Hz that they are brought to.

    Example
    -------
    >>> import soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "rain.wav", np.ones(8000) / 2, 8000)
    >>> NoiseFolder(folder)[0].shape
    torch.Size([16000])
    """

    def __init__(self, folder: Union[str, Path], sample_rate: int = 16000):
        if not Path(folder).is_dir():
            raise ValueError(
                f"There is no noise_folder {folder}: WHAMR! has recordings, "
                "and hparams/wavjepa_nat_mini.yaml needs none."
            )
        self.files = sorted(
            str(path)
            for path in Path(folder).rglob("*")
            # a pipe would block, a dangling link is nothing
            if is_clip_name(path.name) and path.is_file()
        )
        if not self.files:
            kinds = ", ".join(AUDIO_SUFFIXES)
            raise ValueError(f"noise_folder {folder} holds no {kinds} file.")
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        """Return the number of items."""
        return PARTS * len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Read a recording, or a minute of it: [T]."""
        if not 0 <= index < len(self):
            raise IndexError(f"Noise {index} of {len(self)}.")
        part, number = divmod(index, len(self.files))
        file = self.files[number]
        try:
            waveform, rate = _read_part(file, part)
            noise = resample(waveform, rate, self.sample_rate)
            if not torch.isfinite(torch.linalg.vector_norm(noise)):
                raise ValueError("it holds values that are not finite")
        except ValueError as error:
            raise ValueError(f"{file} cannot be used: {error}") from error
        if not torch.any(noise):
            raise ValueError(f"{file} is silent.")
        return rms_normalize(noise)[:, 0]


def _read_part(path: str, part: int) -> tuple[Tensor, int]:
    """Read a part of a recording: [T, 1] of its first channel, and its rate."""
    with open_clip(path) as file:
        wanted, start = math.ceil(MAX_SECONDS * file.samplerate), 0
        if wanted < file.frames < UNKNOWN_LENGTH:
            start = (file.frames - wanted) * part // (PARTS - 1)
            file.seek(start)
        pieces = read_pieces(file, start, min(wanted, file.frames - start))
        # copied, so that no piece keeps the other channels in memory
        mono = np.concatenate([piece[:, :1].copy() for piece in pieces])
        return torch.from_numpy(mono), file.samplerate


class SyntheticNoises:
    """Wind, mains hum, babble and rain in turn, for runs without a download.

    They are made when asked for, of the seed and their index, and then kept.

    Arguments
    ---------
    num_clips : int
        Number of noises.
    seconds : float
        Length of the longest; the shortest has a quarter of it.
    sample_rate : int
        Rate in Hz.
    seed : int
        Noises with another seed are other noises.

    Example
    -------
    >>> noise = SyntheticNoises(num_clips=8, seed=3)[0]
    >>> round(noise.square().mean().item(), 3)
    1.0
    """

    def __init__(
        self,
        num_clips: int = 100,
        seconds: float = 5.0,
        sample_rate: int = 16000,
        seed: int = 0,
    ):
        if num_clips < 1 or seconds < 0.4 or sample_rate < 8000:
            raise ValueError(
                "Noises need num_clips >= 1, seconds >= 0.4 and sample_rate "
                f">= 8000, got {num_clips}, {seconds} and {sample_rate}."
            )
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.seed = seed
        self._made = [None] * num_clips  # tensors

    def __len__(self) -> int:
        """Return the number of noises."""
        return len(self._made)

    def __getitem__(self, index: int) -> Tensor:
        """Make a noise [T] of unit level."""
        if self._made[index] is not None:
            return self._made[index]
        random = np.random.default_rng([self.seed, index])
        seconds = random.uniform(0.25, 1.0) * self.seconds
        make = (_wind, _hum, _babble, _rain)[index % 4]
        num_samples = round(seconds * self.sample_rate)
        noise = _unit_level(make(random, num_samples, self.sample_rate))
        self._made[index] = torch.from_numpy(noise.astype(np.float32))
        return self._made[index]


def _unit_level(noise):
    """Bring a noise to an RMS level of 1."""
    return noise / np.sqrt(np.mean(noise**2))


def _shaped(random, num_samples, rate, gain):
    """Make noise whose spectrum has a gain, a function of the frequency."""
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / rate)
    return np.fft.irfft(spectrum * gain(frequency), num_samples)


def _tilt(slope):
    """Give the gain of a power that falls by 6 * slope dB in an octave."""
    return lambda frequency: np.maximum(frequency, 50.0) ** -slope


def _slow_envelope(random, num_samples, rate, points_per_second):
    """Draw a level that wanders between 0 and 1."""
    num_points = max(int(points_per_second * num_samples / rate), 2)
    time = np.linspace(0, num_points - 1, num_samples)
    return np.interp(time, range(num_points), random.uniform(0, 1, num_points))


def _wind(random, num_samples, rate):
    """Make coloured noise that comes and goes slowly."""
    tilt = _tilt(random.uniform(0.3, 1.2))
    noise = _shaped(random, num_samples, rate, tilt)
    return noise * (0.2 + _slow_envelope(random, num_samples, rate, 1.5))


def _hum(random, num_samples, rate):
    """Make harmonics of the mains' 50 or 60 Hz in some noise."""
    time = np.arange(num_samples) / rate
    frequency = random.choice([50.0, 60.0])
    hum = 0.1 * _unit_level(_shaped(random, num_samples, rate, _tilt(0.5)))
    for harmonic in range(1, 20):
        phase = random.uniform(0, 2 * np.pi)
        level = random.uniform(0.2, 1.0) / harmonic
        hum += level * np.sin(2 * np.pi * harmonic * frequency * time + phase)
    return hum


def _babble(random, num_samples, rate):
    """Sum voice-like bands, each with syllables of its own."""
    babble = np.zeros(num_samples)
    for _ in range(6):
        centre = np.exp(random.uniform(np.log(250), np.log(3000)))

        def bell(frequency, centre=centre):
            octaves = np.log2(np.maximum(frequency, 1.0) / centre)
            return np.exp(-0.5 * (octaves / 0.4) ** 2)

        voice = _unit_level(_shaped(random, num_samples, rate, bell))
        babble += _slow_envelope(random, num_samples, rate, 8.0) ** 2 * voice
    return babble


def _rain(random, num_samples, rate):
    """Scatter decaying clicks over quiet noise."""
    rain = 0.02 * random.standard_normal(num_samples)
    num_drops = int(random.uniform(30, 200) * num_samples / rate)
    decay = np.exp(-np.arange(rate // 100) / (rate / 1000))
    for start in random.integers(0, num_samples, num_drops):
        drop = random.exponential() * decay * random.standard_normal(len(decay))
        rain[start : start + len(drop)] += drop[: num_samples - start]
    return rain
