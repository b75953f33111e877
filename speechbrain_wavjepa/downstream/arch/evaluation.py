"""A data set's figures, from its embeddings.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: n clips, R rows, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import statistics
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch import nn

from speechbrain_wavjepa.downstream.arch.datasets import ArchDataset
from speechbrain_wavjepa.downstream.arch.embeddings import ClipEmbeddings
from speechbrain_wavjepa.downstream.arch.probe import (
    ProbeSettings,
    train_probe,
)
from speechbrain_wavjepa.downstream.probe_training import Rows
from speechbrain_wavjepa.downstream.scores import (
    mean_average_precision,
    top1_accuracy,
)


def multiclass_scores(
    logits: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    """Compute accuracy and the mean F1 of classes.

    Arguments
    ---------
    logits : [R, L] np.ndarray
        Of a probe.
    targets : [R, L] np.ndarray
        1 for the label of a row.

    Returns
    -------
    dict[str, float]
        "accuracy", the main score, and "f1_macro".

    Example
    -------
    >>> multiclass_scores(np.eye(2)[[0, 1, 1]], np.eye(2)[[0, 1, 0]])
    {'accuracy': 0.666..., 'f1_macro': 0.666...}
    """
    true, found = targets.argmax(axis=1), logits.argmax(axis=1)
    return {
        "accuracy": top1_accuracy(logits, targets),
        "f1_macro": float(f1_score(true, found, average="macro")),
    }


def multilabel_scores(
    probabilities: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    """Compute the mean average precision of labels, plain and weighted.

    A label without a positive counts 0 in the plain mean.

    Arguments
    ---------
    probabilities : [R, L] np.ndarray
        Of each label.
    targets : [R, L] np.ndarray
        1 for the labels of a row.

    Returns
    -------
    dict[str, float]
        "map_macro", the main score, and "map_weighted".

    Example
    -------
    >>> multilabel_scores(np.array([[0.8, 0.3], [0.2, 0.9]]), np.eye(2))
    {'map_macro': 1.0, 'map_weighted': 1.0}
    """
    with warnings.catch_warnings():
        # of labels without a positive: evaluate_dataset names them
        warnings.filterwarnings("ignore", "No positive", UserWarning)
        weighted = average_precision_score(
            targets, probabilities, average="weighted"
        )
        return {
            "map_macro": mean_average_precision(probabilities, targets),
            "map_weighted": float(weighted),
        }


def evaluate_dataset(
    dataset: ArchDataset,
    embeddings: ClipEmbeddings,
    settings: ProbeSettings,
    repetitions: int = 1,
    device: str = "cpu",
    seed: int = 42,
) -> dict[str, Any]:
    """Train and test a probe for each run.

    Arguments
    ---------
    dataset : ArchDataset
        The data set.
    embeddings : ClipEmbeddings
        Of its clips; clips that could not be read are left out.
    settings : ProbeSettings
        How to train.
    repetitions : int
        How often all is trained anew.
    device : str
        Where to train.
    seed : int
        Source of all that is random.

    Returns
    -------
    dict[str, Any]
        "main_score", the name; "scores", for each score its mean over runs
        and the deviation of that over repetitions; "runs", all figures;
        "notes", what a reader must know.

    Raises
    ------
    ValueError
        If a split has no readable clip.

    Example
    -------
    >>> from pathlib import Path
    >>> from speechbrain_wavjepa.downstream.arch.datasets import one_hot
    >>> from speechbrain_wavjepa.downstream.arch.splits import ArchRun
    >>> clips = list(range(40))
    >>> run = ArchRun("test", clips[:20], clips[20:30], clips[30:])
    >>> targets = one_hot([clip % 2 for clip in clips], 2)
    >>> pets = ArchDataset(
    ...     "pets", [Path()] * 40, targets, ["a", "b"], False, [run], []
    ... )
    >>> found = evaluate_dataset(
    ...     pets, ClipEmbeddings(targets, {}), ProbeSettings()
    ... )
    >>> found["scores"]["accuracy"]
    {'mean': 1.0, 'deviation': 0.0}
    """
    notes = list(dataset.notes)
    if embeddings.unreadable:
        notes.append(
            f"{len(embeddings.unreadable)} of {len(dataset.paths)} clips "
            "could not be read and are left out."
        )
    rows = torch.from_numpy(np.array(embeddings.rows)).float().to(device)
    targets = torch.from_numpy(dataset.targets).to(device)
    figures = []
    jobs = [(run, n) for n in range(repetitions) for run in dataset.runs]
    for number, (run, repetition) in enumerate(jobs, 1):
        train, valid, test = (
            _take(rows, targets, clips, embeddings.unreadable, dataset.name)
            for clips in run[1:]
        )
        absent = _absent(test, dataset.labels) if dataset.multilabel else []
        if absent and not repetition:
            notes.append(
                f"{len(absent)} labels have no clip in {run.name} and count 0 "
                f"in map_macro: {', '.join(absent[:10])}."
            )
        probe = train_probe(
            train,
            valid,
            dataset.multilabel,
            settings,
            seed + repetition,
            f"probe {dataset.name}, {number} of {len(jobs)}",
        )
        figures.append(
            {
                "run": run.name,
                "repetition": repetition,
                "scores": _test(probe, test, dataset.multilabel),
                "num_train": len(train.targets),
                "num_valid": len(valid.targets),
                "num_test": len(test.targets),
            }
        )
    names = list(figures[0]["scores"])
    return {
        "main_score": names[0],
        "scores": {name: _summarize(figures, name) for name in names},
        "runs": figures,
        "notes": notes,
    }


def _take(rows, targets, clips, unreadable, name) -> Rows:
    """Take the readable clips of a split."""
    kept = [clip for clip in clips if clip not in unreadable]
    if not kept:
        raise ValueError(f"None of a split's clips of {name} can be read.")
    return Rows(rows[kept], targets[kept])


def _test(probe: nn.Module, test: Rows, multilabel: bool) -> dict[str, float]:
    """Score a probe."""
    with torch.no_grad():
        logits = probe(test.embeddings)
    targets = test.targets.numpy(force=True)
    if multilabel:
        return multilabel_scores(logits.sigmoid().numpy(force=True), targets)
    return multiclass_scores(logits.numpy(force=True), targets)


def _absent(rows: Rows, labels: list[str]) -> list[str]:
    """List the labels that no row has."""
    return [labels[n] for n in (rows.targets.sum(dim=0) == 0).nonzero()[:, 0]]


def _summarize(figures: list[dict], name: str) -> dict[str, float]:
    """Average over runs; the deviation is that over repetitions."""
    repetitions = sorted({figure["repetition"] for figure in figures})
    means = [
        statistics.fmean(
            figure["scores"][name]
            for figure in figures
            if figure["repetition"] == n
        )
        for n in repetitions
    ]
    return {
        "mean": statistics.fmean(means),
        "deviation": statistics.pstdev(means),
    }
