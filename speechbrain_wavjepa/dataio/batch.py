"""Batches of clips, complete with the masks of their windows.

Masks and scenes are drawn while a batch is collated, as in I-JEPA
(https://arxiv.org/abs/2301.08243), from a seed that depends on the place of
its clips in the stream only.

Shapes: B clips, W windows per clip, T samples, C channels, N tokens.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Optional, Union

import torch
from torch import Tensor

from speechbrain_wavjepa.dataio.stream import Clip, StreamPosition
from speechbrain_wavjepa.lobes.masking import BlockMasker, JEPAMask
from speechbrain_wavjepa.utils.seed import stable_seed


@dataclasses.dataclass
class ClipBatch:
    """A batch of clips, complete with its masks; ``ClipCollator`` makes it."""

    waveform: Tensor  # [B, T, C], with zeros behind the end of each clip
    lengths: Tensor  # [B], valid samples of each clip
    mask: Optional[JEPAMask]  # of B * W windows
    keys: list[str]  # shard and member of each clip
    seed: int  # of every later random draw for this batch
    position: StreamPosition  # where the stream stands after it
    num_short: int  # clips that are shorter than a window
    scene: Optional[Any] = None  # what augment.SceneMixer makes scenes of

    @property
    def batchsize(self) -> int:
        """Clips in the batch (the name that SpeechBrain asks for)."""
        return len(self.keys)

    def to(
        self, device: Union[str, torch.device], non_blocking: bool = False
    ) -> "ClipBatch":
        """Move waveform, the mask's indices and scenes; lengths stay."""
        self.waveform = self.waveform.to(device, non_blocking=non_blocking)
        if self.mask is not None:
            self.mask = self.mask.to(device, non_blocking=non_blocking)
        if self.scene is not None:
            self.scene = self.scene.to(device, non_blocking=non_blocking)
        return self

    def pin_memory(self) -> "ClipBatch":
        """Pin the memory of what moves, for a fast copy to a GPU."""
        self.waveform = self.waveform.pin_memory()
        if self.mask is not None:
            self.mask = self.mask.pin_memory()
        if self.scene is not None:
            self.scene = self.scene.pin_memory()
        return self


@dataclasses.dataclass
class ClipCollator:
    """Pads clips to one length; draws the masks of their windows and scenes.

    Arguments
    ---------
    masker : BlockMasker or None
        Draws the masks; None leaves them out.
    num_tokens : int
        Tokens of a window and channel.
    windows_per_clip, window_samples : int
        Windows that will be cut out of each clip, and samples of a window.
    clip_samples : int
        Samples that clips are padded to.
    channels : int
        Channels of the model.
    seed : int
        Seed of the run.
    scene_sampler : callable, optional
        Draws scenes: an ``augment.SceneSampler``.

    Raises
    ------
    ValueError
        If a window is longer than a clip.

    Example
    -------
    >>> clip = Clip(torch.ones(1600, 1), "0.tar::0.wav", StreamPosition())
    >>> batch = ClipCollator(BlockMasker(), 200)([clip])
    >>> batch.waveform.shape, batch.mask.context_mask.shape
    (torch.Size([1, 160000, 1]), torch.Size([8, 200]))
    """

    masker: Optional[BlockMasker]
    num_tokens: int
    windows_per_clip: int = 8
    window_samples: int = 32160
    clip_samples: int = 160000
    channels: int = 1
    seed: int = 0
    scene_sampler: Optional[Callable] = None

    def __post_init__(self):
        if self.window_samples > self.clip_samples:
            raise ValueError(
                f"window_samples={self.window_samples} is more than a clip's "
                f"{self.clip_samples}: raise clip_seconds or lower it."
            )
        if self.masker is not None:
            # impossible settings are refused here rather than in a worker
            self.masker(1, self.num_tokens, self.channels, torch.Generator())

    def __call__(self, clips: list[Clip]) -> ClipBatch:
        """Make a batch, a pure function of its clips and the seed."""
        lengths = torch.tensor([len(clip.waveform) for clip in clips])
        channels = clips[0].waveform.shape[1]
        waveform = torch.zeros(len(clips), self.clip_samples, channels)
        for row, clip in zip(waveform, clips, strict=True):
            row[: len(clip.waveform)] = clip.waveform
        position = clips[-1].position
        place = position.rank, position.worker, position.seen
        seed = stable_seed(self.seed, *place)
        mask = None
        if self.masker is not None:
            mask = self.masker(
                len(clips) * self.windows_per_clip,
                self.num_tokens,
                self.channels,
                torch.Generator().manual_seed(seed),
            )
        scene = None
        if self.scene_sampler is not None:
            generator = torch.Generator().manual_seed(stable_seed(seed, 1))
            scene = self.scene_sampler(len(clips), self.clip_samples, generator)
        return ClipBatch(
            waveform=waveform,
            lengths=lengths,
            mask=mask,
            keys=[clip.key for clip in clips],
            # another seed, or the draws would repeat those of the masks
            seed=stable_seed(seed),
            position=position,
            num_short=int((lengths < self.window_samples).sum()),
            scene=scene,
        )
