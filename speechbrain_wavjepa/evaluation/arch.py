"""A data set's figures, from its embeddings.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: n clips, R rows, L labels.

Authors
 * The speechbrain_wavjepa developers 2026

The classifier of ARCH: one linear layer on frozen embeddings.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: R rows, D dim, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
import math
import statistics
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset
from speechbrain_wavjepa.evaluation.embeddings import ClipEmbeddings
from speechbrain_wavjepa.evaluation.metrics import (
    mean_average_precision,
    top1_accuracy,
)
from speechbrain_wavjepa.evaluation.probes import Rows
from speechbrain_wavjepa.utils.environment import require

PROBES = ("linear", "non_linear")
SELECTIONS = ("last", "best")


class ProbeSettings(NamedTuple):
    """How a probe is trained; the defaults are those of ARCH.

    Arguments
    ---------
    probe : str
        "linear", or "non_linear" with one hidden layer of size D.
    epochs : int
        How often each row is seen.
    batch_size : int
        Rows of a step.
    lr : float
        The highest learning rate.
    weight_decay : float
        Of AdamW.
    warmup : float
        Part of the steps in which the learning rate rises.
    extra_step_per_epoch : bool
        True: the schedule moves on once more after each epoch, as in ARCH.
    selection : str
        The weights after the "last" epoch, as in ARCH, or those with the
        "best" validation loss.

    Example
    -------
    >>> ProbeSettings(epochs=5).lr
    0.001
    """

    probe: str = "linear"
    epochs: int = 200
    batch_size: int = 32
    lr: float = 0.001
    weight_decay: float = 0.01
    warmup: float = 0.1
    extra_step_per_epoch: bool = True
    selection: str = "last"


def schedule_factor(step: int, total_steps: int, warmup: float = 0.1) -> float:
    """Compute the part of the learning rate at a step.

    Arguments
    ---------
    step : int
        The schedule's counter, from 0.
    total_steps : int
        Where it ends.
    warmup : float
        Part of the steps in which it rises.

    Returns
    -------
    float
        0 to 1 in a straight line, then back to 0.

    Example
    -------
    >>> [schedule_factor(step, 80) for step in (0, 1, 8, 44, 80, 81)]
    [0.0, 0.125, 1.0, 0.5, 0.0, 0.0]
    """
    warm = max(math.floor(warmup * total_steps), 1)
    if step <= warm:
        return step / warm
    return max(0.0, 1 - (step - warm) / max(total_steps - warm, 1))


def train_probe(
    train: Rows,
    valid: Rows,
    multilabel: bool,
    settings: ProbeSettings,
    seed: int = 42,
    title: str = "train probe",
) -> nn.Module:
    """Train a probe.

    Arguments
    ---------
    train : Rows
        What to train on.
    valid : Rows
        What ``selection: best`` compares epochs on.
    multilabel : bool
        Whether a row may have several labels.
    settings : ProbeSettings
        How to train.
    seed : int
        Source of initial weights, order and dropout.
    title : str
        Stands beside the progress bar.

    Returns
    -------
    nn.Module
        From rows [R, D] to logits [R, L], in evaluation mode.

    Raises
    ------
    ValueError
        If a setting is none of its choices.

    Example
    -------
    >>> rows = Rows(torch.eye(4).repeat(16, 1), torch.eye(4).repeat(16, 1))
    >>> probe = train_probe(rows, rows, False, ProbeSettings(lr=0.1))
    >>> probe(torch.eye(4)).argmax(dim=1)
    tensor([0, 1, 2, 3])
    """
    check_settings(settings)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of the initial weights and the dropout
    dim, num_labels = train.embeddings.shape[1], train.targets.shape[1]
    probe = _build(settings.probe, dim, num_labels)
    probe = probe.to(train.embeddings.device)
    optimizer = torch.optim.AdamW(
        probe.parameters(), weight_decay=settings.weight_decay, fused=True
    )
    num_rows = len(train.embeddings)
    batches = math.ceil(num_rows / settings.batch_size)
    total_steps = settings.epochs * batches
    counter, best = 0, (math.inf, None)
    epochs = range(settings.epochs)
    for _ in tqdm(epochs, desc=title, unit=" epochs", leave=False):
        probe.train()
        order = torch.randperm(num_rows, generator=generator)
        for rows in order.to(train.embeddings.device).split(
            settings.batch_size
        ):
            factor = schedule_factor(counter, total_steps, settings.warmup)
            optimizer.param_groups[0]["lr"] = factor * settings.lr
            loss = compute_loss(
                probe(train.embeddings[rows]), train.targets[rows], multilabel
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            counter += 1
        counter += settings.extra_step_per_epoch
        if settings.selection == "best":
            probe.eval()
            with torch.no_grad():
                logits = probe(valid.embeddings)
                loss = compute_loss(logits, valid.targets, multilabel).item()
            if loss < best[0]:
                best = loss, copy.deepcopy(probe.state_dict())
    if best[1] is not None:
        probe.load_state_dict(best[1])
    return probe.eval()


def compute_loss(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Compute the mean loss of rows.

    Arguments
    ---------
    logits : [R, L]
        Of a probe.
    targets : [R, L]
        1 for the labels of a row.
    multilabel : bool
        Of each label by itself, or cross-entropy of the one label.

    Returns
    -------
    []
        The loss.

    Example
    -------
    >>> compute_loss(torch.zeros(2, 4), torch.eye(4)[:2], False)
    tensor(1.3863)
    """
    if multilabel:
        # of the probabilities, as ARCH computes it: the logarithm is cut off
        # at -100
        return nn.functional.binary_cross_entropy(logits.sigmoid(), targets)
    return nn.functional.cross_entropy(logits, targets.argmax(dim=1))


def check_settings(settings: ProbeSettings) -> None:
    """Refuse settings that mean nothing, before hours are spent.

    Arguments
    ---------
    settings : ProbeSettings
        How to train.

    Raises
    ------
    ValueError
        If a setting is none of its choices.

    Example
    -------
    >>> check_settings(ProbeSettings(epochs=0))
    Traceback (most recent call last):
    ...
    ValueError: epochs and batch_size must be 1 or more, lr above 0, ...
    """
    for name, choices in (("probe", PROBES), ("selection", SELECTIONS)):
        value = getattr(settings, name)
        if value not in choices:
            raise ValueError(f"{name}={value!r} must be one of {choices}.")
    sizes = (settings.epochs, settings.batch_size, settings.lr)
    if not all(isinstance(size, (int, float)) for size in sizes) or (
        settings.epochs < 1 or settings.batch_size < 1 or settings.lr <= 0
    ):
        raise ValueError(
            f"epochs and batch_size must be 1 or more, lr above 0, got {sizes}."
        )


def _build(probe: str, dim: int, num_labels: int) -> nn.Module:
    """Build a probe with torch's own initial weights."""
    last = nn.Linear(dim, num_labels)
    if probe == "linear":
        return last
    return nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.1), nn.ReLU(), last)


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
    metrics = require("sklearn.metrics", "eval")
    true, found = targets.argmax(axis=1), logits.argmax(axis=1)
    return {
        "accuracy": top1_accuracy(logits, targets),
        "f1_macro": float(metrics.f1_score(true, found, average="macro")),
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
    metrics = require("sklearn.metrics", "eval")
    with warnings.catch_warnings():
        # of labels without a positive: evaluate_dataset names them
        warnings.filterwarnings("ignore", "No positive", UserWarning)
        weighted = metrics.average_precision_score(
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
        and the std of that over repetitions; "runs", all figures;
        "notes", what a reader must know.

    Raises
    ------
    ValueError
        If a split has no readable clip.

    Example
    -------
    >>> from pathlib import Path
    >>> from speechbrain_wavjepa.evaluation.arch_dataset import one_hot
    >>> from speechbrain_wavjepa.evaluation.arch_dataset import ArchRun
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
    {'mean': 1.0, 'std': 0.0}
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
        "std": statistics.pstdev(means),
    }
