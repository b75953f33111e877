"""Training of probes as the HEAR kit does it, all at once.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022): Adam,
batches in a fixed order, validation every few epochs, the weights of the
first best validation, an end after a while without improvement.

Shapes: R rows, D dim, L labels, G probes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechbrain_wavjepa.downstream.grid import GridPoint
from speechbrain_wavjepa.downstream.probe_bank import BankOptimizer, ProbeBank


class Rows(NamedTuple):
    """Embeddings and targets.

    Arguments
    ---------
    embeddings : [R, D]
        The rows.
    targets : [R, L]
        1 for the labels of a row, else 0.

    Example
    -------
    >>> Rows(torch.zeros(3, 8), torch.eye(3)).targets.shape
    torch.Size([3, 3])
    """

    embeddings: Tensor
    targets: Tensor


class TrainedProbe(NamedTuple):
    """A probe at its best validation.

    Arguments
    ---------
    point : GridPoint
        Its settings.
    score : float
        The validation score, higher is better.
    epoch : int
        The epoch of that validation, counted from 0.
    choice : Any
        What the validation chose besides, such as how events are found.
    bank : ProbeBank
        A bank of this probe alone.

    Example
    -------
    >>> bank = ProbeBank([GridPoint()], 8, 3)
    >>> TrainedProbe(GridPoint(), 0.5, 2, None, bank).epoch
    2
    """

    point: GridPoint
    score: float
    epoch: int
    choice: Any
    bank: ProbeBank


# From logits [R, L] of the validation rows to a score, where higher is better,
# and whatever was chosen on the way.
Validate = Callable[[Tensor], tuple[float, Any]]


def probe_loss(logits: Tensor, targets: Tensor, multiclass: bool) -> Tensor:
    """Compute the loss of each probe.

    Arguments
    ---------
    logits : [G, R, L]
        Of each probe.
    targets : [R, L]
        1 for the labels of a row.
    multiclass : bool
        Cross-entropy of the one label, or of each label by itself.

    Returns
    -------
    [G]
        Means over rows.

    Example
    -------
    >>> probe_loss(torch.zeros(2, 3, 4), torch.eye(4)[:3], True)
    tensor([1.3863, 1.3863])
    """
    if multiclass:
        picked = targets.argmax(dim=1).expand(len(logits), -1)[:, :, None]
        chosen = logits.log_softmax(dim=2).gather(2, picked)
        return -chosen.mean(dim=(1, 2))
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, targets.expand_as(logits), reduction="none"
    )
    return losses.mean(dim=(1, 2))


def to_probabilities(logits: Tensor, multiclass: bool) -> Tensor:
    """Turn logits into probabilities of the same shape.

    Arguments
    ---------
    logits : [..., L]
        Of a probe.
    multiclass : bool
        Whether one label excludes the others.

    Returns
    -------
    [..., L]
        The probabilities.

    Example
    -------
    >>> to_probabilities(torch.zeros(1, 4), True)
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return logits.softmax(dim=-1) if multiclass else logits.sigmoid()


def train_probes(
    points: Sequence[GridPoint],
    train: Rows,
    valid_embeddings: Tensor,
    validate: Validate,
    multiclass: bool,
    seed: int = 42,
) -> list[TrainedProbe]:
    """Train a probe for each point of a grid.

    Arguments
    ---------
    points : sequence of GridPoint
        The settings.
    train : Rows
        What to train on, in the order of the batches.
    valid_embeddings : [R, D]
        Rows to validate on.
    validate : callable
        What scores their logits.
    multiclass : bool
        Whether one label excludes the others.
    seed : int
        Source of initial weights and dropout.

    Returns
    -------
    list of TrainedProbe
        In the order of the points.

    Raises
    ------
    ValueError
        If a point would never be validated.

    Example
    -------
    >>> rows = Rows(torch.eye(4).repeat(8, 1), torch.eye(4).repeat(8, 1))
    >>> def accuracy(found):
    ...     right = found.argmax(1) == rows.targets.argmax(1)
    ...     return right.double().mean().item(), None
    >>> points = [GridPoint(lr=lr, max_epochs=30) for lr in (1e-2, 1e-3)]
    >>> probes = train_probes(points, rows, rows.embeddings, accuracy, True)
    >>> [probe.score for probe in probes]
    [1.0, 1.0]
    """
    for point in points:
        if point.max_epochs < point.check_val_every_n_epoch:
            raise ValueError(
                f"A probe of {point.max_epochs} epochs is never validated, "
                f"with check_val_every_n_epoch={point.check_val_every_n_epoch}."
            )
    torch.manual_seed(seed)  # of the dropout
    generator = torch.Generator().manual_seed(seed)
    trained: dict[int, TrainedProbe] = {}

    def shape(index: int) -> tuple:
        point = points[index]
        return (
            point.hidden_layers,
            point.hidden_dim,
            point.dropout,
            point.batch_size,
            point.precision,
        )

    indices = sorted(range(len(points)), key=shape)
    for _, group in itertools.groupby(indices, shape):
        group = list(group)
        probes = _train_bank(
            [points[index] for index in group],
            train,
            valid_embeddings,
            validate,
            multiclass,
            generator,
        )
        trained.update(zip(group, probes))
    return [trained[index] for index in range(len(points))]


def _train_bank(
    points, train, valid_embeddings, validate, multiclass, generator
) -> list[TrainedProbe]:
    """Train probes of one shape together until the last one is done."""
    sizes = train.embeddings.shape[1], train.targets.shape[1]
    bank = ProbeBank(points, *sizes, generator).to(train.embeddings.device)
    optimizer = BankOptimizer(bank)
    batches = _batches(train, points[0].batch_size)
    best: list = [None] * len(points)  # score, epoch, choice, state
    waited = [0] * len(points)
    members = list(range(len(points)))  # of the bank
    progress = tqdm(
        range(max(point.max_epochs for point in points)),
        desc="train probes",
        unit=" epochs",
        leave=False,
    )
    for epoch in progress:
        progress.set_postfix(probes=len(members), refresh=False)
        _train_epoch(optimizer, batches, multiclass)
        logits, done = None, set()
        for place, index in enumerate(members):
            point = points[index]
            if (epoch + 1) % point.check_val_every_n_epoch == 0:
                if logits is None:
                    logits = _compute_logits(optimizer.bank, valid_embeddings)
                score, choice = validate(logits[place])
                finite = math.isfinite(score)
                score = score if finite else -math.inf
                waited[index] += 1
                if best[index] is None or score > best[index][0]:
                    state = optimizer.bank.probe_state(place)
                    best[index] = (score, epoch, choice, state)
                    waited[index] = 0
                if not finite or waited[index] >= point.patience:
                    done.add(place)
            if epoch + 1 >= point.max_epochs:
                done.add(place)
        if len(done) == len(members):
            break
        if done:
            alive = [n for n in range(len(members)) if n not in done]
            members = [members[place] for place in alive]
            optimizer = optimizer.select(alive)
    progress.close()
    trained = []
    for point, (score, epoch, choice, state) in zip(points, best):
        alone = ProbeBank([point], *sizes).to(train.embeddings.device).eval()
        alone.load_probe_state(0, state)
        trained.append(TrainedProbe(point, score, epoch, choice, alone))
    return trained


def _train_epoch(optimizer, batches, multiclass) -> None:
    """Pass once through all batches."""
    bank = optimizer.bank.train()
    for rows in batches:
        bank.zero_grad(set_to_none=True)
        loss = probe_loss(bank(rows.embeddings), rows.targets, multiclass)
        loss.sum().backward()
        optimizer.step()


@torch.no_grad()
def _compute_logits(bank: ProbeBank, embeddings: Tensor) -> Tensor:
    """Compute the logits of validation rows."""
    return bank.eval()(embeddings)


def _batches(train: Rows, batch_size: int) -> list[Rows]:
    """Cut rows into batches in their order; none of a single row."""
    count = max(math.ceil((len(train.embeddings) - 1) / batch_size), 1)
    edges = [number * batch_size for number in range(count)]
    edges.append(len(train.embeddings))
    return [
        Rows(train.embeddings[start:stop], train.targets[start:stop])
        for start, stop in zip(edges, edges[1:])
    ]
