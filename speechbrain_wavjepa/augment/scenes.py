"""Spatial scenes: clips as a listener in a noisy, reverberant room hears them.

``SceneSampler`` draws room, noise and signal-to-noise ratio where batches are
collated, since it reads from the disk. ``SceneMixer`` mixes on the device.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Shapes: B clips, S scenes among them, T samples, C receivers (ears), P noise
positions, R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

logger = logging.getLogger(__name__)

MAX_DRAWS = 20


@dataclasses.dataclass
class SceneParts:
    """What makes some clips of a batch scenes.

    Arguments are the fields below.

    Example
    -------
    >>> from speechbrain_wavjepa.augment.brir import RoomScene
    >>> room = RoomScene("0", torch.randn(4, 2, 800), {"t60": 0.3})
    >>> parts = SceneSampler([room], [torch.randn(48000)])(3, 32160)
    >>> parts.to("cpu").metadata[0]
    {'t60': 0.3}
    """

    rows: Tensor  # [S]: which clips become scenes
    source_response: Tensor  # [S, C, R]
    noise_responses: Tensor  # [S, P, C, R], zeros where a scene has fewer
    noise: Tensor  # [S, T], zeros where it is not active
    noise_span: Tensor  # [S, 2]: its first sample, and the one behind it
    snr_db: Tensor  # [S]
    metadata: list[dict] = dataclasses.field(default_factory=list)  # the bank's
    num_bad: int = 0  # scenes and noises that could not be used

    def _map(self, function) -> "SceneParts":
        """Apply a function to every tensor."""
        mapped = {
            name: function(value)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **mapped)

    def to(
        self, device: Union[str, torch.device], non_blocking: bool = False
    ) -> "SceneParts":
        """Move the tensors to a device."""
        return self._map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "SceneParts":
        """Pin the memory, for a fast copy to a GPU."""
        return self._map(Tensor.pin_memory)


class SceneSampler:
    """Draws scenes at random.

    Arguments
    ---------
    bank : sequence of RoomScene
        Rooms: a ``BRIRBank``.
    noises : sequence of [T] tensors
        Background noises: a ``NoiseFolder``.
    snr_db : sequence of two floats
        Range of the signal-to-noise ratio in dB.
    scene_prob : float
        Part of the clips that become scenes: 1 - the paper's clean ratio.
    fade_seconds, sample_rate : float, int
        Length of the noise's linear fades, and the rate of all sounds in Hz.

    Example
    -------
    >>> from speechbrain_wavjepa.augment.brir import RoomScene
    >>> room = RoomScene("0", torch.randn(4, 2, 800), {"t60": 0.3})
    >>> sampler = SceneSampler([room], [torch.randn(48000)])
    >>> sampler(num_clips=3, num_samples=32160).noise_responses.shape
    torch.Size([3, 3, 2, 800])
    """

    def __init__(
        self,
        bank: Sequence,
        noises: Sequence[Tensor],
        snr_db: Sequence[float] = (5.0, 40.0),
        scene_prob: float = 1.0,
        fade_seconds: float = 0.2,
        sample_rate: int = 16000,
    ):
        if not 0 <= scene_prob <= 1 or not fade_seconds >= 0:
            raise ValueError(
                "Scenes need 0 <= scene_prob <= 1 and fade_seconds >= 0, got "
                f"{scene_prob} and {fade_seconds}."
            )
        if len(snr_db) != 2 or not snr_db[0] <= snr_db[1]:
            raise ValueError(f"snr_db must be [lowest, highest], got {snr_db}.")
        if min(len(bank), len(noises)) == 0:
            raise ValueError(
                "Scenes need at least one room and one noise, got "
                f"{len(bank)} rooms and {len(noises)} noises."
            )
        self.bank = bank
        self.noises = noises
        self.snr_db = snr_db
        self.scene_prob = scene_prob
        self.fade_samples = round(fade_seconds * sample_rate)

    def __call__(
        self,
        num_clips: int,
        num_samples: int,
        generator: Optional[torch.Generator] = None,
    ) -> SceneParts:
        """Draw the scenes of a batch; what cannot be read is drawn again."""
        is_scene = torch.rand(num_clips, generator=generator) < self.scene_prob
        lowest, highest = self.snr_db
        place = torch.rand(num_clips, generator=generator)
        snr_db = lowest + (highest - lowest) * place
        rows = is_scene.nonzero()[:, 0]
        noise = torch.zeros(len(rows), num_samples)
        rooms, spans, num_bad = [], [], 0
        for row in noise:
            room, bad_rooms = _draw(self.bank, "scene", generator)
            drawn, bad_noises = _draw(self.noises, "noise", generator)
            num_bad += bad_rooms + bad_noises
            row[:], span = fit_noise(
                drawn, num_samples, self.fade_samples, generator
            )
            rooms.append(room)
            spans.append(span)
        shapes = [room.responses.shape for room in rooms] or [(1, 1, 1)]
        responses = torch.zeros(len(rooms), *np.max(shapes, axis=0).tolist())
        for padded, (places, _, taps), room in zip(responses, shapes, rooms):
            padded[:places, :, :taps] = room.responses
        return SceneParts(
            rows=rows,
            source_response=responses[:, 0],
            noise_responses=responses[:, 1:],
            noise=noise,
            noise_span=torch.tensor(spans).view(-1, 2),
            snr_db=snr_db[rows],
            metadata=[room.metadata for room in rooms],
            num_bad=num_bad,
        )


class SceneMixer:
    """Mixes clips and scene parts to what reaches the ears of a listener.

    Arguments
    ---------
    channels : int
        Receivers of the responses: 2 for ears.
    snr_per_channel : bool
        False: one gain for all ears, so the noise keeps its level difference
        between them. True: a gain for each, as in the authors' released code.

    Example
    -------
    >>> from speechbrain_wavjepa.augment.brir import RoomScene
    >>> room = RoomScene("0", torch.randn(4, 2, 800), {"t60": 0.3})
    >>> parts = SceneSampler([room], [torch.randn(48000)])(3, 32160)
    >>> SceneMixer()(torch.randn(3, 32160, 1), parts).shape
    torch.Size([3, 32160, 2])
    """

    def __init__(self, channels: int = 2, snr_per_channel: bool = False):
        self.channels = channels
        self.snr_per_channel = snr_per_channel

    def __call__(self, waveform: Tensor, parts: SceneParts) -> Tensor:
        """Mix clips [B, T, 1]; those without a scene are copied: [B, T, C]."""
        if waveform.shape[2] != 1:
            raise ValueError(
                "A scene is made of clips with one channel, got "
                f"{waveform.shape[2]}: set clip_options' channels to 1."
            )
        scenes = waveform.repeat(1, 1, self.channels)
        if len(parts.rows) == 0:
            return scenes
        if parts.source_response.shape[1] != self.channels:
            raise ValueError(
                f"The bank's {parts.source_response.shape[1]} receivers need a "
                f"model of as many channels, got {self.channels} channels."
            )
        source = waveform[:, :, 0].index_select(0, parts.rows)  # [S, T]
        source = convolve(source[:, None], parts.source_response)
        # all positions play one noise: one convolution with their sum
        response = parts.noise_responses.sum(dim=1)
        noise = convolve(parts.noise[:, None], response)  # [S, C, T]
        gain = self.noise_gain(source, noise, parts)  # [S, C, 1]
        mixed = torch.addcmul(source, gain, noise)  # [S, C, T]
        return scenes.index_copy(0, parts.rows, mixed.transpose(1, 2))

    def noise_gain(
        self, source: Tensor, noise: Tensor, parts: SceneParts
    ) -> Tensor:
        """Find the gain [S, C, 1] of noise [S, C, T] that gives its ratio.

        Levels count where the noise is active; without any the gain is 0.
        """
        sample = torch.arange(source.shape[2], device=source.device)
        start, stop = parts.noise_span[:, None].unbind(dim=2)  # [S, 1]
        active = ((sample >= start) & (sample < stop)).to(source)[:, None]
        source_energy = (source.square() * active).sum(dim=2)  # [S, C]
        noise_energy = (noise.square() * active).sum(dim=2)
        if not self.snr_per_channel:
            source_energy = source_energy.sum(dim=1, keepdim=True)
            noise_energy = noise_energy.sum(dim=1, keepdim=True)
        wanted = 10 ** (parts.snr_db[:, None] / 10)
        ratio = source_energy / (noise_energy * wanted)
        gain = torch.where(noise_energy > 0, ratio, 0).sqrt()
        return gain.expand(-1, source.shape[1])[:, :, None]


def convolve(waveform: Tensor, response: Tensor) -> Tensor:
    """Convolve [..., T] with [..., R] by Fourier transform: [..., T]."""
    num_samples = waveform.shape[-1]
    response = response[..., :num_samples]
    # even: real transforms of odd lengths are slower
    half = -(-(num_samples + response.shape[-1] - 1) // 2)
    length = 2 * next_fast_len(half, real=True)
    spectrum = torch.fft.rfft(response, length)
    spectrum = spectrum * torch.fft.rfft(waveform, length)
    return torch.fft.irfft(spectrum, length)[..., :num_samples]


def fit_noise(
    noise: Tensor,
    num_samples: int,
    fade_samples: int,
    generator: Optional[torch.Generator] = None,
) -> tuple[Tensor, tuple[int, int]]:
    """Fit a noise [T'] into a clip: [num_samples], and where it is active.

    A longer noise is cut at random and fades out at the end of the clip. A
    shorter one lies anywhere in the clip and fades in and out.
    """
    spare = num_samples - len(noise)
    start = int(torch.randint(abs(spare) + 1, (), generator=generator))
    if spare < 0:
        noise, start = noise[start : start + num_samples], 0
    stop, length = start + len(noise), min(fade_samples, len(noise) // 2)
    fade = torch.linspace(0, 1, length, dtype=noise.dtype)
    placed = noise.new_zeros(num_samples)
    placed[start:stop] = noise
    placed[stop - length : stop] *= fade.flip(0)
    if spare >= 0:
        placed[start : start + length] *= fade
    return placed, (start, stop)


def _draw(items: Sequence, kind: str, generator: Optional[torch.Generator]):
    """Draw an item that can be read; count those that cannot."""
    for num_bad in range(MAX_DRAWS):
        index = int(torch.randint(len(items), (), generator=generator))
        try:
            return items[index], num_bad
        except (ValueError, OSError) as error:
            logger.warning("Left out a %s: %s", kind, error)
            reason = error
    raise ValueError(f"In {MAX_DRAWS} draws no {kind} could be used: {reason}")
