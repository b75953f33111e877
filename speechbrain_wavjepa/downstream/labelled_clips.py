"""Clips of a task for a loader, and their targets: for fine-tuning.

Shapes: B clips, T samples, C channels, N tokens of a clip, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechbrain_wavjepa.downstream.embedding_cache import (
    SplitEmbeddings,
    make_targets,
)
from speechbrain_wavjepa.downstream.tasks import HearTask

Place = tuple[str, str]  # a clip's split and name


class LabelledClips(torch.utils.data.Dataset):
    """Clips of some splits, read from the disk one by one.

    Arguments
    ---------
    task : HearTask
        The task.
    splits : sequence of str
        The splits, one after the other.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> clip, place = LabelledClips(task, ["valid", "test"])[6]
    >>> clip.shape, place
    (torch.Size([1600, 1]), ('test', '0.wav'))
    """

    def __init__(self, task: HearTask, splits: Sequence[str]):
        self.task = task
        self.places = [
            (split, name) for split in splits for name in task.clips[split]
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Place]:
        return self.task.read_clip(*self.places[index]), self.places[index]


def collate_clips(
    examples: Sequence[tuple[Tensor, Place]],
) -> tuple[Tensor, Tensor, list[Place]]:
    """Pad clips to one length.

    Arguments
    ---------
    examples : sequence of (clip [T, C], place)
        From ``LabelledClips``.

    Returns
    -------
    wavs : [B, T, C]
        The clips, with zeros behind.
    wav_lens : [B]
        Their lengths relative to T.
    places : list of (split, name)
        Where each of them is from.

    Raises
    ------
    ValueError
        If some have other numbers of channels than others.

    Example
    -------
    >>> clips = [torch.ones(4, 1), torch.ones(8, 1)]
    >>> places = [("test", "0.wav"), ("test", "1.wav")]
    >>> wavs, wav_lens, _ = collate_clips(list(zip(clips, places)))
    >>> wavs.shape, wav_lens
    (torch.Size([2, 8, 1]), tensor([0.5000, 1.0000]))
    """
    clips, places = zip(*examples)
    if len(channels := {clip.shape[1] for clip in clips}) > 1:
        raise ValueError(
            f"Clips with {sorted(channels)} channels are in one batch, such as "
            f"{places[0]}: give all clips of the task the same channels."
        )
    wavs = pad_sequence(list(clips), batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips])
    return wavs, lengths / wavs.shape[1], list(places)


def batch_targets(
    task: HearTask,
    places: Sequence[Place],
    times: Optional[np.ndarray] = None,
) -> Tensor:
    """Make the targets of some clips, as those of the HEAR kit's probes.

    Arguments
    ---------
    task : HearTask
        The task.
    places : sequence of (split, name)
        The clips.
    times : [N] np.ndarray, optional
        Times of tokens in milliseconds; none for scenes.

    Returns
    -------
    [B, N, L]
        1 where a label is on; of scenes [B, 1, L].

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> batch_targets(task, [("test", "0.wav"), ("test", "1.wav")])
    tensor([[[0., 1.]],
    <BLANKLINE>
            [[1., 0.]]])
    """
    count = 1 if times is None else len(times)
    rows = np.empty((count, 0))
    targets = [
        make_targets(task, split, SplitEmbeddings([name], rows, [count], times))
        for split, name in places
    ]
    return torch.from_numpy(np.stack(targets))
