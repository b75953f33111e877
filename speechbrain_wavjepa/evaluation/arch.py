"""A data set's figures from its embeddings: one linear layer, as in ARCH.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: n clips, R rows, D dim, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset
from speechbrain_wavjepa.evaluation.embeddings import ClipEmbeddings
from speechbrain_wavjepa.evaluation.metrics import (
    mean_average_precision,
    top1_accuracy,
)
from speechbrain_wavjepa.evaluation.probes import Rows
from speechbrain_wavjepa.utils.environment import require

CHOICES = {"probe": ("linear", "non_linear"), "selection": ("last", "best")}
POSITIVE = {"epochs": int, "batch_size": int, "lr": (int, float)}


class ProbeSettings(NamedTuple):
    """How a probe is trained; the defaults are those of ARCH.

    Arguments
    ---------
    probe : str
        "linear", or "non_linear" with one hidden layer of size D.
    epochs, batch_size : int
        How often each row is seen; rows of a step.
    lr, weight_decay : float
        The highest learning rate; AdamW's weight decay.
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

    def check(self) -> None:
        """Raise a ValueError for what means nothing, before hours are spent."""
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name}={value!r} must be one of {choices}.")
        for name, kind in POSITIVE.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or not value > 0:
                what = "an integer" if kind is int else "a number"
                raise ValueError(f"{name}={value!r} must be {what} above 0.")


def schedule_factor(step: int, total_steps: int, warmup: float = 0.1) -> float:
    """Compute the learning rate's factor: 0 to 1, then to 0, in lines."""
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
    """Train a probe from rows [R, D] to logits [R, L]."""
    settings.check()
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of the initial weights and the dropout
    dim, num_labels = train.embeddings.shape[1], train.targets.shape[1]
    probe = last = nn.Linear(dim, num_labels)
    if settings.probe == "non_linear":
        hidden = nn.Linear(dim, dim)
        probe = nn.Sequential(hidden, nn.Dropout(0.1), nn.ReLU(), last)
    device = train.embeddings.device
    probe.to(device)
    optimizer = torch.optim.AdamW(
        probe.parameters(), weight_decay=settings.weight_decay, fused=True
    )
    num_rows = len(train.embeddings)
    total_steps = settings.epochs * math.ceil(num_rows / settings.batch_size)
    counter, best, best_weights = 0, math.inf, None
    epochs = range(settings.epochs)
    for _ in tqdm(epochs, desc=title, unit=" epochs", leave=False):
        probe.train()
        order = torch.randperm(num_rows, generator=generator).to(device)
        for rows in order.split(settings.batch_size):
            factor = schedule_factor(counter, total_steps, settings.warmup)
            optimizer.param_groups[0]["lr"] = factor * settings.lr
            some = Rows(train.embeddings[rows], train.targets[rows])
            loss = compute_loss(probe, some, multilabel)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            counter += 1
        counter += settings.extra_step_per_epoch
        if settings.selection == "best":
            probe.eval()
            with torch.no_grad():
                loss = compute_loss(probe, valid, multilabel).item()
            if loss < best:
                best, best_weights = loss, copy.deepcopy(probe.state_dict())
    if best_weights is not None:
        probe.load_state_dict(best_weights)
    return probe.eval()


def compute_loss(probe: nn.Module, rows: Rows, multilabel: bool) -> Tensor:
    """Compute the mean loss of rows: of each label, or of the one label."""
    logits = probe(rows.embeddings)
    if multilabel:
        # of probabilities, as ARCH does: the logarithm is cut off at -100
        return functional.binary_cross_entropy(logits.sigmoid(), rows.targets)
    return functional.cross_entropy(logits, rows.targets.argmax(dim=1))


@torch.no_grad()
def score_probe(
    probe: nn.Module, test: Rows, multilabel: bool
) -> dict[str, float]:
    """Score a probe: accuracy and mean F1, or mean average precisions.

    The first is the main score. A label without a positive counts 0 in the
    plain mean average precision.
    """
    metrics = require("sklearn.metrics", "eval")
    found = probe(test.embeddings)
    found = (found.sigmoid() if multilabel else found).numpy(force=True)
    targets = test.targets.numpy(force=True)
    if not multilabel:
        true, best = targets.argmax(axis=1), found.argmax(axis=1)
        f1_macro = float(metrics.f1_score(true, best, average="macro"))
        return {"accuracy": top1_accuracy(found, targets), "f1_macro": f1_macro}
    with warnings.catch_warnings():
        # of labels without a positive: evaluate_dataset names them
        warnings.filterwarnings("ignore", "No positive", UserWarning)
        plain = mean_average_precision(found, targets)
        weighted = metrics.average_precision_score(
            targets, found, average="weighted"
        )
    return {"map_macro": plain, "map_weighted": float(weighted)}


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
        "main_score", its name; "scores", means over runs, and their std over
        repetitions; "runs", all figures; "notes", what a reader must know.

    Example
    -------
    >>> from speechbrain_wavjepa.evaluation.arch_dataset import ArchRun
    >>> clips, targets = list(range(40)), np.tile(np.eye(2, dtype="f"), (20, 1))
    >>> run = ArchRun("test", clips[:20], clips[20:30], clips[30:])
    >>> pets = ArchDataset("pets", clips, targets, ["a", "b"], False, [run])
    >>> rows = ClipEmbeddings(targets, {})
    >>> evaluate_dataset(pets, rows, ProbeSettings())["scores"]["accuracy"]
    {'mean': 1.0, 'std': 0.0}
    """
    notes = list(dataset.notes)
    if embeddings.unreadable:
        count = f"{len(embeddings.unreadable)} of {len(dataset.paths)}"
        notes.append(f"{count} clips could not be read and are left out.")
    rows = torch.from_numpy(np.array(embeddings.rows)).float().to(device)
    targets = torch.from_numpy(dataset.targets).to(device)

    def take(clips: list[int]) -> Rows:
        """Take the readable clips of a split."""
        kept = [clip for clip in clips if clip not in embeddings.unreadable]
        if not kept:
            raise ValueError(f"A split of {dataset.name} has no readable clip.")
        return Rows(rows[kept], targets[kept])

    figures = []
    jobs = [(run, n) for n in range(repetitions) for run in dataset.runs]
    for number, (run, repetition) in enumerate(jobs, 1):
        train, valid, test = map(take, run[1:])
        absent = (test.targets.sum(dim=0) == 0).nonzero()[:, 0].tolist()
        if dataset.multilabel and absent and not repetition:
            names = ", ".join(dataset.labels[n] for n in absent[:10])
            notes.append(
                f"{len(absent)} labels have no clip in {run.name} and count 0 "
                f"in map_macro: {names}."
            )
        title = f"probe {dataset.name}, {number} of {len(jobs)}"
        probe = train_probe(
            train, valid, dataset.multilabel, settings, seed + repetition, title
        )
        scores = score_probe(probe, test, dataset.multilabel)
        figure = {"run": run.name, "repetition": repetition, "scores": scores}
        for split, some in zip(run._fields[1:], (train, valid, test)):
            figure[f"num_{split}"] = len(some.targets)
        figures.append(figure)
    summary = {}
    for name in figures[0]["scores"]:
        scores = [figure["scores"][name] for figure in figures]
        means = np.reshape(scores, (repetitions, -1)).mean(axis=1)
        summary[name] = {"mean": float(means.mean()), "std": float(means.std())}
    found = {"main_score": next(iter(summary)), "scores": summary}
    return {**found, "runs": figures, "notes": notes}
