"""Naturalistic versions of a task: every clip in a room, with noise.

Source: Nat-HEAR, in WavJEPA (https://arxiv.org/abs/2509.23238): labels and
splits stay, the clips become scenes in rooms that are in no training data.

Shapes: T samples, C receivers.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Optional, Union

import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.augment.brir import RECEIVERS
from speechbrain_wavjepa.augment.scenes import SceneMixer, SceneParts
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.utils.files import (
    atomic_folder,
    claim,
    hold,
    is_made,
    path_inside,
)

# What is made of a scene's receivers: two ears for binaural models, the
# microphone in the place of the head for mono ones.
VERSIONS = {"binaural": slice(0, 2), "omni": slice(2, 3)}
Sampler = Callable[..., SceneParts]


def write_naturalistic(
    task: HearTask,
    output: Union[str, Path],
    sampler: Sampler,
    seed: int = 0,
    drawn_from: Optional[Mapping[str, str]] = None,
) -> list[Path]:
    """Write the versions output/binaural and output/omni of a task.

    The scene of a clip depends on its name and the seed only, and is the same
    in both. The sampler's rooms have the receivers left, right and omni and
    belong to the test part of a bank; ``drawn_from`` are fingerprints of its
    rooms and noises. A version made of the same is kept, another refused.
    """
    name = task.folder.resolve().name
    made_of = {**task.fingerprints(), **(drawn_from or {}), "seed": seed}
    folders = [Path(output) / version / name for version in VERSIONS]
    with ExitStack() as stack:
        asides = {}
        for folder, channels in zip(folders, VERSIONS.values()):
            stack.enter_context(hold(folder))
            if not is_made(folder, made_of):
                aside = stack.enter_context(atomic_folder(folder))
                claim(aside, made_of)
                asides[aside] = channels
        if asides:
            _write_versions(asides, task, sampler, seed)
    return folders


def _write_versions(
    asides: Mapping[Path, slice], task: HearTask, sampler: Sampler, seed: int
) -> None:
    """Write versions of a task; each takes some of a scene's receivers."""
    layout = ["task_metadata.json", "labelvocabulary.csv"]
    layout += [f"{split}.json" for split in task.splits]
    for aside in asides:
        for file in layout:
            shutil.copy(task.folder / file, aside)
    clips = [(split, n) for split in task.clips for n in task.clips[split]]
    rate = task.sample_rate
    for split, name in tqdm(clips, f"scenes of {task.name}", unit=" clips"):
        scene = _make_scene(task, split, name, sampler, seed)
        for aside, channels in asides.items():
            place = path_inside(aside / str(rate) / split, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place, scene[:, channels].numpy(), rate, "PCM_16")


def _make_scene(
    task: HearTask, split: str, name: str, sampler: Sampler, seed: int
) -> Tensor:
    """Put the first channel of a clip into a room: [T, C]."""
    clip = task.read_clip(split, name)[:, :1]
    text = f"{task.name}/{split}/{name}/{seed}"
    digest = hashlib.sha256(text.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    parts = sampler(1, len(clip), generator)
    (scene,) = SceneMixer(channels=len(RECEIVERS))(clip[None], parts)
    # a peak beyond full scale is turned down, at both ears alike
    return scene / scene.abs().max().clamp(min=1)
