"""A procedural, labelled corpus of sounds for the runs without a download.

Every clip is a pure function of the seed and its index: a sound of one
class at a random place in the clip, over coloured background noise, at a
random level.

Shapes: n clips, T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.data.shard_writer import encode_flac, write_shard
from speechbrain_wavjepa.synthetic_sounds import SOUNDS
from speechbrain_wavjepa.utils.files import claim, hold

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
                "A synthetic corpus needs clips of at least one second at "
                f"16,000 Hz or more, got num_clips={num_clips}, "
                f"clip_seconds={clip_seconds}, sample_rate={sample_rate}."
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
        slope = random.uniform(0, 1)
        noise = np.fft.irfft(
            spectrum * np.maximum(frequency, 50) ** -slope, num_samples
        )
        return noise / np.sqrt(np.mean(noise**2))

    def load(self) -> tuple[Tensor, Tensor]:
        """Make all clips: waveform [n, T, 1] and labels [n]."""
        clips = [
            self[index]
            for index in tqdm(
                range(len(self)), desc="labelled sounds", leave=False
            )
        ]
        waveform = torch.stack([clip for clip, _ in clips])[:, :, None]
        return waveform, torch.tensor([label for _, label in clips])

    def write_shards(
        self, folder: Union[str, Path], clips_per_shard: int = 100
    ) -> None:
        """Write tar shards of FLAC clips; whole shards there are kept.

        Arguments
        ---------
        folder : str or Path
            Where to write shard-000000.tar and so on.
        clips_per_shard : int
            Clips of a shard; the last one may have fewer.

        Raises
        ------
        ValueError
            If the folder holds something else than this corpus or is in use,
            or a shard is to have no clips.
        """
        if clips_per_shard < 1:
            raise ValueError(
                f"A shard needs one clip or more, got {clips_per_shard}: "
                "raise clips_per_shard."
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
                    write_shard(
                        path, map(self._encode_clip, range(start, stop))
                    )

    def _encode_clip(self, index: int) -> tuple[str, bytes, dict]:
        """Give the key of a clip, its FLAC file and its class."""
        waveform, label = self[index]
        flac = encode_flac(waveform.numpy(), self.sample_rate)
        return f"{index:06d}", flac, {"label": CLASSES[label]}
