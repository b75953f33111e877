"""Naturalistic versions of a task: every clip in a room, with noise.

Source: Nat-HEAR, in WavJEPA (https://arxiv.org/abs/2509.23238): labels and
splits stay, the clips become scenes in rooms that no training has heard.

Shapes: T samples, C receivers.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Union

import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.downstream.tasks import HearTask
from speechbrain_wavjepa.rooms import RECEIVERS
from speechbrain_wavjepa.scenes import SceneMixer, SceneParts
from speechbrain_wavjepa.utils.files import atomic_folder

# What is made of a scene's receivers: two ears for binaural models, the
# microphone in the place of the head for mono ones.
VERSIONS: Mapping[str, slice] = {
    "binaural": slice(0, 2),
    "omni": slice(2, 3),
}


def write_naturalistic(
    task: HearTask,
    output: Union[str, Path],
    sampler: Callable[..., SceneParts],
    seed: int = 0,
) -> list[Path]:
    """Write the binaural and the omni version of a task.

    The scene of a clip depends on its name and the seed only, and is the same
    in both versions.

    Arguments
    ---------
    task : HearTask
        The task.
    output : str or Path
        Where the folders binaural/ and omni/ are, or are made.
    sampler : callable
        A ``scene_sampler.SceneSampler`` whose rooms have the receivers left,
        right and omni, and belong to the test part of a bank.
    seed : int
        Another seed makes other scenes.

    Returns
    -------
    list of Path
        The two task folders.

    Raises
    ------
    ValueError
        If a version exists already or a clip cannot be read.

    Example
    -------
    >>> from speechbrain_wavjepa.rooms import RoomScene
    >>> from speechbrain_wavjepa.scene_sampler import SceneSampler
    >>> bank = [RoomScene("0", torch.randn(2, 3, 800), {"t60": 0.3})]
    >>> sampler = SceneSampler(bank, noises=[torch.randn(48000)])
    >>> task = HearTask(getfixture("task_folder"))
    >>> for path in write_naturalistic(task, getfixture("tmp_path"), sampler):
    ...     HearTask(path).read_clip("test", "0.wav").shape
    torch.Size([1600, 2])
    torch.Size([1600, 1])
    """
    folders = {
        version: Path(output) / version / task.folder.name
        for version in VERSIONS
    }
    for folder in folders.values():
        if folder.exists():
            raise ValueError(
                f"{folder} exists: choose another output or delete it."
            )
    mixer = SceneMixer(channels=len(RECEIVERS))
    total = sum(len(clips) for clips in task.clips.values())
    progress = tqdm(total=total, desc=f"scenes of {task.name}", unit=" clips")
    with ExitStack() as stack:
        stack.enter_context(progress)
        asides = {
            version: stack.enter_context(atomic_folder(folder))
            for version, folder in folders.items()
        }
        for aside in asides.values():
            for path in task.folder.glob("*.*"):
                shutil.copy(path, aside)
        for split, clips in task.clips.items():
            for name in clips:
                scene = _make_scene(task, split, name, sampler, mixer, seed)
                for version, aside in asides.items():
                    place = aside / str(task.sample_rate) / split / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(
                        place,
                        scene[:, VERSIONS[version]].numpy(),
                        task.sample_rate,
                        "PCM_16",
                    )
                progress.update()
    return list(folders.values())


def _make_scene(
    task: HearTask,
    split: str,
    name: str,
    sampler: Callable[..., SceneParts],
    mixer: SceneMixer,
    seed: int,
) -> Tensor:
    """Put the first channel of a clip into a room: [T, C]."""
    clip = task.read_clip(split, name)[:, :1]
    text = f"{task.name}/{split}/{name}/{seed}"
    digest = hashlib.sha256(text.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    parts = sampler(1, len(clip), generator)
    (scene,) = mixer(clip[None], parts)
    # a peak beyond full scale is turned down, at both ears alike
    return scene / scene.abs().max().clamp(min=1)
