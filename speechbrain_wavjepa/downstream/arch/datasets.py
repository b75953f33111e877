"""A labelled data set, in the terms of ARCH.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_wavjepa.downstream.arch.splits import ArchRun


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

    Example
    -------
    >>> one_hot([1, 0], 2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
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
        If a clip has a label that is not in ``labels``.

    Example
    -------
    >>> multi_hot([["b", "a"], []], ["a", "b"]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
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
