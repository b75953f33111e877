"""Batches of clips, complete with the places and masks of their windows.

Windows, masks and scenes are drawn while a batch is collated, as in I-JEPA
(https://arxiv.org/abs/2301.08243), from a seed that depends on the place of
its clips in the stream only. So nothing has to be drawn, or looked up in what
was drawn, where the model runs.

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
from speechbrain_wavjepa.processing.windows import draw_starts
from speechbrain_wavjepa.utils.seed import stable_seed


@dataclasses.dataclass
class ClipBatch:
    """A batch of clips, complete with its masks; ``ClipCollator`` makes it.

    Arguments
    ---------
    waveform, lengths : Tensor
        Clips [B, T, C], zeros behind their ends; valid samples [B] of each.
    starts : [B, W]
        Where the windows of each clip begin.
    mask : JEPAMask or None
        Of B * W windows.
    keys : list of str
        Shard and member of each clip.
    position : StreamPosition
        Where the stream stands after it.
    num_short : int
        Clips that are shorter than a window.
    scene : SceneParts, optional
        What ``augment.SceneMixer`` makes scenes of.

    Example
    -------
    >>> clip = Clip(torch.ones(8, 1), "0.tar::0.wav", StreamPosition())
    >>> batch = ClipCollator(None, 4, 2, 4, clip_samples=16)([clip])
    >>> batch.to("cpu").waveform.shape, batch.lengths, batch.keys
    (torch.Size([1, 16, 1]), tensor([8]), ['0.tar::0.wav'])
    """

    waveform: Tensor
    lengths: Tensor
    starts: Tensor
    mask: Optional[JEPAMask]
    keys: list[str]
    position: StreamPosition
    num_short: int
    scene: Optional[Any] = None

    @property
    def batchsize(self) -> int:
        """Clips in the batch (the name that SpeechBrain asks for)."""
        return len(self.keys)

    def to(self, device: Union[str, torch.device], **options) -> "ClipBatch":
        """Move all tensors but the masks themselves."""
        return self._change("to", device, **options)

    def pin_memory(self) -> "ClipBatch":
        """Pin the memory of what moves, for a fast copy to a GPU."""
        return self._change("pin_memory")

    def _change(self, method: str, *arguments, **options) -> "ClipBatch":
        """Call a method of all that moves to a GPU, in place."""
        for name in ("waveform", "lengths", "starts", "mask", "scene"):
            if (value := getattr(self, name)) is not None:
                changed = getattr(value, method)(*arguments, **options)
                setattr(self, name, changed)
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
    clip_samples, channels : int
        Samples that clips are padded to, and channels of the model.
    seed : int
        Seed of the run.
    scene_sampler : callable, optional
        Draws scenes: an ``augment.SceneSampler``.
    find_gradient_rows : callable, optional
        The front-end's, as of ``JEPAMask``.

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
    find_gradient_rows: Optional[Callable] = None

    def __post_init__(self):
        if self.window_samples > self.clip_samples:
            raise ValueError(
                f"window_samples={self.window_samples} is more than a clip's "
                f"{self.clip_samples}: raise clip_seconds or lower it."
            )
        self._draw_masks(1, 0)  # refuses what is impossible, before the workers

    def _draw_masks(self, num_windows: int, seed: int) -> Optional[JEPAMask]:
        """Draw the masks of windows, if there is a masker."""
        generator = torch.Generator().manual_seed(seed)
        size = num_windows, self.num_tokens, self.channels
        return self.masker and self.masker(
            *size, generator, self.find_gradient_rows
        )

    def __call__(self, clips: list[Clip]) -> ClipBatch:
        """Make a batch, a pure function of its clips and the seed."""
        lengths = torch.tensor([len(clip.waveform) for clip in clips])
        channels = clips[0].waveform.shape[1]
        waveform = torch.zeros(len(clips), self.clip_samples, channels)
        for row, clip in zip(waveform, clips, strict=True):
            row[: len(clip.waveform)] = clip.waveform
        last = clips[-1].position
        seed = stable_seed(self.seed, last.rank, last.worker, last.seen)
        scene = None
        if self.scene_sampler is not None:
            generator = torch.Generator().manual_seed(stable_seed(seed, 1))
            scene = self.scene_sampler(len(clips), self.clip_samples, generator)
        # another seed, or the draws would repeat those of the masks
        generator = torch.Generator().manual_seed(stable_seed(seed))
        return ClipBatch(
            waveform=waveform,
            lengths=lengths,
            starts=draw_starts(
                lengths, self.window_samples, self.windows_per_clip, generator
            ),
            mask=self._draw_masks(len(clips) * self.windows_per_clip, seed),
            keys=[clip.key for clip in clips],
            position=last,
            num_short=int((lengths < self.window_samples).sum()),
            scene=scene,
        )
