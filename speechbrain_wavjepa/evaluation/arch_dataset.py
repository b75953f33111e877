"""A labelled data set, in the terms of ARCH.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026

How the clips of a data set are divided, in the terms of ARCH.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from speechbrain_wavjepa.utils.environment import require
from speechbrain_wavjepa.utils.files import fingerprint, hash_file

SPLIT_SEED = 42  # of ARCH's random splits
MAX_FOLDS = 100  # no data set of ARCH has more than eleven


class ArchRun(NamedTuple):
    """Which clips train, select and test.

    Arguments
    ---------
    name : str
        What is tested, such as "fold 1".
    train : list of int
        Numbers of clips.
    valid : list of int
        Numbers of clips.
    test : list of int
        Numbers of clips.

    Example
    -------
    >>> ArchRun("fold 1", [0, 1], [2], [3]).test
    [3]
    """

    name: str
    train: list[int]
    valid: list[int]
    test: list[int]


def split_off(clips: Sequence[int], share: float) -> tuple[list, list]:
    """Divide clips at random, the same way each time.

    Arguments
    ---------
    clips : sequence of int
        Numbers of clips, in an order that does not change.
    share : float
        The part that is held out, rounded up.

    Returns
    -------
    tuple of list of int
        The others, and those held out.

    Raises
    ------
    ValueError
        If there are fewer than two clips.

    Example
    -------
    >>> split_off(range(10), 0.2)
    ([5, 0, 7, 2, 9, 4, 3, 6], [8, 1])
    """
    if len(clips) < 2:
        raise ValueError(
            f"{len(clips)} clips cannot be divided into training and "
            "validation: is the data set complete?"
        )
    kept, held_out = require(
        "sklearn.model_selection", "eval"
    ).train_test_split(list(clips), test_size=share, random_state=SPLIT_SEED)
    return kept, held_out


def fold_runs(groups: Sequence, valid_share: float) -> list[ArchRun]:
    """Test each group once, and validate on a part of the others.

    Arguments
    ---------
    groups : [n] sequence
        Fold or speaker of each clip. The pool of the others is in the order
        in which groups appear first.
    valid_share : float
        Part of the pool that validates.

    Returns
    -------
    list of ArchRun
        One for each group, in order of first appearance.

    Raises
    ------
    ValueError
        If there are absurdly many groups, or too few clips.

    Example
    -------
    >>> runs = fold_runs([1, 1, 1, 2, 2, 2], 0.3)
    >>> runs[1].test, sorted(runs[1].train + runs[1].valid)
    ([3, 4, 5], [0, 1, 2])
    """
    members = _members(groups)
    if len(members) > MAX_FOLDS:
        raise ValueError(
            f"The clips have {len(members)} folds, over {MAX_FOLDS}: each is "
            "tested once. Is the table as it is published?"
        )
    runs = []
    for test, clips in members.items():
        pool = [n for other in members if other != test for n in members[other]]
        runs.append(ArchRun(str(test), *split_off(pool, valid_share), clips))
    return runs


def cyclic_runs(groups: Sequence, order: Sequence) -> list[ArchRun]:
    """Test each group once and validate on the next one.

    Arguments
    ---------
    groups : [n] sequence
        Fold or speaker of each clip.
    order : sequence
        The groups in their order; behind the last comes the first.

    Returns
    -------
    list of ArchRun
        One for each group.

    Raises
    ------
    ValueError
        If a group has no clip.

    Example
    -------
    >>> cyclic_runs("abca", "abc")[2]
    ArchRun(name='c', train=[1], valid=[0, 3], test=[2])
    """
    members = _members(groups)
    if missing := [group for group in order if group not in members]:
        raise ValueError(
            f"There is no clip of {missing}: each of {list(order)} is tested "
            "once. Is the data set complete?"
        )
    runs = []
    for number, test in enumerate(order):
        valid = order[(number + 1) % len(order)]
        train = [
            clip
            for group in order
            if group not in (test, valid)
            for clip in members[group]
        ]
        runs.append(ArchRun(str(test), train, members[valid], members[test]))
    return runs


def given_run(splits: Sequence[str]) -> ArchRun:
    """Take the published split.

    Arguments
    ---------
    splits : [n] sequence of str
        "train", "valid" or "test" for each clip.

    Returns
    -------
    ArchRun
        The one run.

    Raises
    ------
    ValueError
        If a split has no clip.

    Example
    -------
    >>> given_run(["train", "test", "valid"])
    ArchRun(name='test', train=[0], valid=[2], test=[1])
    """
    members = _members(splits)
    for split in ("train", "valid", "test"):
        if split not in members:
            raise ValueError(
                f"The {split} split has no clip: are all lists there?"
            )
    return ArchRun("test", *(members[s] for s in ("train", "valid", "test")))


def _members(groups: Sequence) -> dict:
    """List the clips of each group, in order of first appearance."""
    members: dict = {}
    for clip, group in enumerate(groups):
        members.setdefault(group, []).append(clip)
    return members


MAX_LABELS = 1000  # no data set of ARCH has more than 200


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
    >>> paths = [Path("a.wav"), Path("b.wav"), Path("c.wav")]
    >>> targets = one_hot([0, 1, 0], 2)
    >>> dataset = ArchDataset(
    ...     "pets", paths, targets, ["dog", "cat"], False, [run], []
    ... )
    >>> dataset.targets.shape
    (3, 2)
    """

    name: str
    paths: list[Path]
    targets: np.ndarray
    labels: list[str]
    multilabel: bool
    runs: list[ArchRun]
    notes: list[str]


def name_files(dataset: ArchDataset) -> list[str]:
    """Name the files of a data set, wherever it lies.

    Arguments
    ---------
    dataset : ArchDataset
        The data set.

    Returns
    -------
    list of str
        Their paths below the folder that they have in common.

    Example
    -------
    >>> paths = [Path("data/a/0.wav"), Path("data/b/1.wav")]
    >>> name_files(ArchDataset("", paths, np.eye(2), ["a", "b"], False, [], []))
    ['a/0.wav', 'b/1.wav']
    """
    root = os.path.commonpath([path.parent for path in dataset.paths])
    return [path.relative_to(root).as_posix() for path in dataset.paths]


def fingerprint_dataset(dataset: ArchDataset) -> dict[str, str]:
    """Tell a data set apart from others of its name, by its content.

    Arguments
    ---------
    dataset : ArchDataset
        The data set.

    Returns
    -------
    dict[str, str]
        Fingerprints of its labels and runs, and of its clips; a clip that is
        not there counts as such.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> pets = ArchDataset("pets", [path], np.eye(1), ["a"], False, [], [])
    >>> absent = fingerprint_dataset(pets)
    >>> path.touch()
    >>> present = fingerprint_dataset(pets)
    >>> absent["labels"] == present["labels"]
    True
    >>> absent["clips"] == present["clips"]
    False
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
    """Count classes that a table numbers from 0.

    Arguments
    ---------
    classes : sequence of int
        Number of the class of each clip.

    Returns
    -------
    int
        One more than the largest.

    Raises
    ------
    ValueError
        If a number is negative or absurdly large.

    Example
    -------
    >>> count_classes([0, 3, 1])
    4
    """
    if wrong := [n for n in classes if not 0 <= n < MAX_LABELS]:
        raise ValueError(
            f"A clip has the class {wrong[0]}; there are 0 to {MAX_LABELS - 1}."
        )
    return max(classes) + 1


def one_hot(classes: Sequence[int], num_labels: int) -> np.ndarray:
    """Make the targets of clips with one label each.

    Arguments
    ---------
    classes : [n] sequence of int
        Number of the label of each clip.
    num_labels : int
        L.

    Returns
    -------
    [n, L] np.ndarray of float32
        1 for the label of a clip, else 0.

    Raises
    ------
    ValueError
        If there are absurdly many labels.

    Example
    -------
    >>> one_hot([1, 0], 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if num_labels > MAX_LABELS:
        raise ValueError(f"There are {num_labels} labels, over {MAX_LABELS}.")
    return np.eye(num_labels, dtype=np.float32)[np.asarray(classes, int)]


def multi_hot(
    found: Sequence[Iterable[str]], labels: Sequence[str]
) -> np.ndarray:
    """Make the targets of clips with any number of labels.

    Arguments
    ---------
    found : [n] sequence of iterable of str
        The labels of each clip.
    labels : sequence of str
        The L names.

    Returns
    -------
    [n, L] np.ndarray of float32
        1 for the labels of a clip, else 0.

    Raises
    ------
    ValueError
        If a clip has a label that is not in ``labels``, or there are absurdly
        many.

    Example
    -------
    >>> multi_hot([["b", "a"], []], ["a", "b"]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    if len(labels) > MAX_LABELS:
        raise ValueError(f"There are {len(labels)} labels, over {MAX_LABELS}.")
    index = {label: number for number, label in enumerate(labels)}
    targets = np.zeros((len(found), len(labels)), np.float32)
    for row, names in zip(targets, found):
        for name in names:
            if name not in index:
                raise ValueError(
                    f"The label {name!r} is none of {list(labels)}: are the "
                    "files of labels complete?"
                )
            row[index[name]] = 1
    return targets
