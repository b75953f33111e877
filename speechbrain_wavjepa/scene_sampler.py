"""Draw the scenes of a batch: room, noise, signal-to-noise ratio.

Runs where batches are collated, since it reads from the disk; what it draws
depends on a generator only. Each clip gets a scene of its own.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238), section 2.3.

Shapes: S scenes, T samples, C receivers (ears), P noise positions, R samples
of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import logging
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechbrain_wavjepa.scenes import SceneParts

logger = logging.getLogger(__name__)

MAX_DRAWS = 20


class SceneSampler:
    """Draws scenes at random.

    Arguments
    ---------
    bank : sequence of RoomScene
        Rooms: a ``rooms.BRIRBank``.
    noises : sequence of [T] tensors
        Background noises: a ``noises.NoiseFolder``. What raises a ValueError
        or OSError when it is read is drawn again, of rooms as well.
    snr_db : sequence of two floats
        Range of the signal-to-noise ratio in dB.
    scene_prob : float
        Part of the clips that become scenes; the others stay clean. (The
        paper's clean ratio is one minus this.)
    fade_seconds : float
        Length of the linear fades of the noise.
    sample_rate : int
        Rate in Hz of clips, responses and noises.

    Raises
    ------
    ValueError
        If a setting is out of its range, or bank or noises are empty.

    Example
    -------
    >>> from speechbrain_wavjepa.rooms import RoomScene
    >>> bank = [RoomScene("0", torch.randn(4, 2, 800), {"t60": 0.3})]
    >>> sampler = SceneSampler(bank, noises=[torch.randn(48000)])
    >>> parts = sampler(num_clips=3, num_samples=32160)
    >>> parts.noise_responses.shape, parts.noise.shape
    (torch.Size([3, 3, 2, 800]), torch.Size([3, 32160]))
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
        if not 0 <= scene_prob <= 1:
            raise ValueError(
                f"scene_prob must lie between 0 and 1, got {scene_prob}."
            )
        if len(snr_db) != 2 or not snr_db[0] <= snr_db[1]:
            raise ValueError(
                f"snr_db must be [lowest, highest] in dB, got {snr_db}."
            )
        if fade_seconds < 0 or sample_rate < 1:
            raise ValueError(
                "fade_seconds must not be negative and sample_rate must be "
                f"positive, got {fade_seconds} and {sample_rate}."
            )
        if len(bank) == 0 or len(noises) == 0:
            raise ValueError(
                f"{len(bank)} rooms and {len(noises)} noises are too few: "
                "scenes need one of each."
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
        """Draw the scenes of a batch.

        Arguments
        ---------
        num_clips : int
            Clips of the batch.
        num_samples : int
            Samples of a clip.
        generator : torch.Generator, optional
            Source of randomness, on the CPU.

        Returns
        -------
        SceneParts
            What ``scenes.SceneMixer`` needs.

        Raises
        ------
        ValueError
            If hardly a scene or noise can be used.
        """
        is_scene = torch.rand(num_clips, generator=generator) < self.scene_prob
        lowest, highest = self.snr_db
        snr_db = lowest + (highest - lowest) * torch.rand(
            num_clips, generator=generator
        )
        rows = is_scene.nonzero()[:, 0]
        rooms, noises, spans, num_bad = [], [], [], 0
        for _ in rows:
            room, bad_rooms = _draw(self.bank, "scene", generator)
            noise, bad_noises = _draw(self.noises, "noise", generator)
            noise, span = fit_noise(
                noise, num_samples, self.fade_samples, generator
            )
            rooms.append(room)
            noises.append(noise)
            spans.append(span)
            num_bad += bad_rooms + bad_noises
        responses = _pad_responses([room.responses for room in rooms])
        return SceneParts(
            rows=rows,
            source_response=responses[:, 0],
            noise_responses=responses[:, 1:],
            noise=torch.stack(noises) if rooms else torch.zeros(0, num_samples),
            noise_span=torch.tensor(spans).view(-1, 2),
            snr_db=snr_db[rows],
            about=[room.about for room in rooms],
            num_bad=num_bad,
        )


def fit_noise(
    noise: Tensor,
    num_samples: int,
    fade_samples: int,
    generator: Optional[torch.Generator] = None,
) -> tuple[Tensor, tuple[int, int]]:
    """Fit a noise into a clip, with linear fades.

    A longer noise is cut at random: it sounds already when the clip begins
    and fades out at its end. A shorter one fades in and out somewhere in the
    clip.

    Arguments
    ---------
    noise : [T']
        The noise.
    num_samples : int
        Samples of the clip.
    fade_samples : int
        Samples of a fade; half of the noise at most.
    generator : torch.Generator, optional
        Source of randomness, on the CPU.

    Returns
    -------
    noise : [num_samples]
        The noise at its place, zeros around it.
    span : (int, int)
        First sample at which it is active, and the one behind.

    Example
    -------
    >>> fit_noise(torch.ones(4), num_samples=4, fade_samples=2)
    (tensor([0., 1., 1., 0.]), (0, 4))
    """
    spare = num_samples - len(noise)
    start = int(torch.randint(abs(spare) + 1, (), generator=generator))
    if spare < 0:
        noise = noise[start : start + num_samples]
        start = 0
    noise = noise.clone()
    fade = torch.linspace(
        0, 1, min(fade_samples, len(noise) // 2), dtype=noise.dtype
    )
    noise[len(noise) - len(fade) :] *= fade.flip(0)
    if spare >= 0:
        noise[: len(fade)] *= fade
    placed = noise.new_zeros(num_samples)
    placed[start : start + len(noise)] = noise
    return placed, (start, start + len(noise))


def _draw(items: Sequence, kind: str, generator: Optional[torch.Generator]):
    """Draw an item that can be read; count those that cannot."""
    for num_bad in range(MAX_DRAWS):
        index = int(torch.randint(len(items), (), generator=generator))
        try:
            return items[index], num_bad
        except (ValueError, OSError) as error:
            logger.warning("Left out a %s: %s", kind, error)
            reason = error
    raise ValueError(
        f"{MAX_DRAWS} times in a row, no {kind} could be used. The last: "
        f"{reason}"
    )


def _pad_responses(responses: list[Tensor]) -> Tensor:
    """Stack responses [1 + P, C, R] with zeros behind the short ones."""
    if not responses:
        return torch.zeros(0, 1, 1, 1)
    taps = max(response.shape[2] for response in responses)
    return pad_sequence(
        [
            torch.nn.functional.pad(response, (0, taps - response.shape[2]))
            for response in responses
        ],
        batch_first=True,
    )
