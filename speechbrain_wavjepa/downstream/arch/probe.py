"""The classifier of ARCH: one linear layer on frozen embeddings.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Shapes: R rows, D dim, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechbrain_wavjepa.downstream.probe_training import Rows

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
