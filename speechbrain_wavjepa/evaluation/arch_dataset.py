"""A labelled data set in the terms of ARCH, and how its clips are divided.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import fingerprint, hash_file

SPLIT_SEED = 42  # of ARCH's random splits
MAX_FOLDS = 100  # no data set of ARCH has more than eleven
MAX_LABELS = 1000  # no data set of ARCH has more than 200


class ArchRun(NamedTuple):
    """Which clips, by number, train, select and test; "fold 1" is a name."""

    name: str
    train: list[int]
    valid: list[int]
    test: list[int]


class ArchDataset(NamedTuple):
    """Clips, their labels and the runs.

    Arguments
    ---------
    name : str
        ARCH's name of the data set.
    paths : list of Path
        The file of each clip.
    targets : [n, L] np.ndarray of float32
        1 for the labels of a clip, else 0.
    labels : list of str
        Names of the labels.
    multilabel : bool
        Whether a clip may have several labels.
    runs : list of ArchRun
        One, or one for each fold.
    notes : list of str
        What a reader of the figures must know.

    Example
    -------
    >>> run = ArchRun("test", [0], [1], [2])
    >>> paths, targets = [Path("a.wav"), Path("b.wav")], one_hot([0, 1], 2)
    >>> ArchDataset("pets", paths, targets, ["dog", "cat"], False, [run]).labels
    ['dog', 'cat']
    """

    name: str
    paths: list[Path]
    targets: np.ndarray
    labels: list[str]
    multilabel: bool
    runs: list[ArchRun]
    notes: Sequence[str] = ()


def split_off(clips: Sequence[int], share: float) -> list[list[int]]:
    """Divide clips at random, the same way each time; a share is held out."""
    if len(clips) < 2:
        raise ValueError(f"{len(clips)} clips cannot be split: are all there?")
    split = require("sklearn.model_selection", "eval").train_test_split
    return split(list(clips), test_size=share, random_state=SPLIT_SEED)


def fold_runs(groups: Sequence, valid_share: float) -> list[ArchRun]:
    """Test each fold or speaker once; validate on a share of the others.

    The others are in the order in which groups appear first.
    """
    members = _members(groups)
    if len(members) > MAX_FOLDS:
        raise ValueError(f"Clips have {len(members)} folds, over {MAX_FOLDS}.")
    runs = []
    for test, clips in members.items():
        pool = itertools.chain(*(members[g] for g in members if g != test))
        parts = split_off(list(pool), valid_share)
        runs.append(ArchRun(str(test), *parts, clips))
    return runs


def cyclic_runs(groups: Sequence, order: Sequence) -> list[ArchRun]:
    """Test each fold or speaker once; validate on the next one in order."""
    members = _members(groups)
    if missing := [group for group in order if group not in members]:
        raise ValueError(f"No clip of {missing}: is the data set complete?")
    runs = []
    for test, valid in zip(order, [*order[1:], order[0]]):
        others = [members[g] for g in order if g not in (test, valid)]
        train = list(itertools.chain(*others))
        runs.append(ArchRun(str(test), train, members[valid], members[test]))
    return runs


def given_run(splits: Sequence[str]) -> ArchRun:
    """Take the published split: "train", "valid" or "test" of each clip."""
    members = _members(splits)
    names = ("train", "valid", "test")
    if missing := [split for split in names if split not in members]:
        raise ValueError(f"No clip in {missing[0]}: are all lists there?")
    return ArchRun("test", *(members[split] for split in names))


def _members(groups: Sequence) -> dict:
    """List the clips of each group, in order of first appearance."""
    members: dict = {}
    for clip, group in enumerate(groups):
        members.setdefault(group, []).append(clip)
    return members


def name_files(dataset: ArchDataset) -> list[str]:
    """Name files by their paths below the folder that they have in common."""
    root = os.path.commonpath([path.parent for path in dataset.paths])
    return [path.relative_to(root).as_posix() for path in dataset.paths]


def fingerprint_dataset(dataset: ArchDataset) -> dict[str, str]:
    """Tell a data set apart by "labels" (and runs) and "clips", by content.

    A clip that is not there counts as such.
    """
    names = name_files(dataset)
    progress = tqdm(dataset.paths, desc=f"hash {dataset.name}", delay=2)
    clips = [
        [name, hash_file(path) if path.is_file() else None]
        for name, path in zip(names, progress)
    ]
    targets = [np.flatnonzero(row).tolist() for row in dataset.targets]
    labels = [names, targets, dataset.labels, dataset.multilabel, dataset.runs]
    return {"labels": fingerprint(labels), "clips": fingerprint(clips)}


def count_classes(classes: Sequence[int]) -> int:
    """Count classes that a table numbers from 0."""
    if wrong := [n for n in classes if not 0 <= n < MAX_LABELS]:
        raise ValueError(
            f"A clip has the class {wrong[0]}; there are 0 to {MAX_LABELS - 1}."
        )
    return max(classes) + 1


def one_hot(classes: Sequence[int], num_labels: int) -> np.ndarray:
    """Make the targets [n, L] of clips with one label each, by its number."""
    if num_labels > MAX_LABELS:
        raise ValueError(f"There are {num_labels} labels, over {MAX_LABELS}.")
    return np.eye(num_labels, dtype=np.float32)[np.asarray(classes, int)]


def multi_hot(
    found: Sequence[Sequence[str]], labels: Sequence[str]
) -> np.ndarray:
    """Make the targets [n, L] of clips with any number of labels, by name."""
    if len(labels) > MAX_LABELS:
        raise ValueError(f"There are {len(labels)} labels, over {MAX_LABELS}.")
    index = {label: number for number, label in enumerate(labels)}
    targets = np.zeros((len(found), len(labels)), np.float32)
    for row, names in zip(targets, found):
        if unknown := [name for name in names if name not in index]:
            raise ValueError(
                f"The label {unknown[0]!r} is none of {list(labels)}: are the "
                "files of labels complete?"
            )
        row[[index[name] for name in names]] = 1
    return targets
