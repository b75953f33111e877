"""What the nearest training clips tell: a probe without training.

Shapes: R rows, S training rows, D dim, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from speechbrain_wavjepa.downstream.embedding_cache import (
    SplitEmbeddings,
    make_targets,
)
from speechbrain_wavjepa.downstream.probe_evaluation import SplitScorer
from speechbrain_wavjepa.downstream.tasks import HearTask

ROWS_AT_ONCE = 1024
SMALLEST = 1e-6  # probability, so that its logarithm is finite


def neighbour_probabilities(
    rows: Tensor, train_rows: Tensor, train_targets: Tensor, k: int
) -> Tensor:
    """Average the targets of the k nearest rows, by the cosine.

    Arguments
    ---------
    rows : [R, D]
        What to find neighbours of.
    train_rows : [S, D]
        The neighbours.
    train_targets : [S, L]
        Their targets.
    k : int
        How many count.

    Returns
    -------
    [R, L]
        Shares of the neighbours with each label.

    Raises
    ------
    ValueError
        If there are less than k neighbours.

    Example
    -------
    >>> rows = torch.tensor([[1.0, 0.1]])
    >>> neighbour_probabilities(rows, 3 * torch.eye(2), torch.eye(2), 1)
    tensor([[1., 0.]])
    """
    if not 1 <= k <= len(train_rows):
        raise ValueError(
            f"k={k} neighbours of {len(train_rows)} training rows: take 1 to "
            f"{len(train_rows)}."
        )
    directions = torch.nn.functional.normalize(train_rows, dim=1)
    shares = []
    for some in rows.split(ROWS_AT_ONCE):
        cosines = torch.nn.functional.normalize(some, dim=1) @ directions.T
        nearest = cosines.topk(k, dim=1).indices
        shares.append(train_targets[nearest].mean(dim=1))
    return torch.cat(shares)


def evaluate_neighbours(
    task: HearTask,
    splits: Mapping[str, SplitEmbeddings],
    ks: Sequence[int] = (1, 5, 20),
) -> dict[str, dict[str, float]]:
    """Score the nearest neighbours on each test split.

    Training and validation splits are neighbours alike: nothing is chosen.

    Arguments
    ---------
    task : HearTask
        A scene task.
    splits : Mapping[str, SplitEmbeddings]
        Embeddings of each split.
    ks : sequence of int
        Numbers of neighbours.

    Returns
    -------
    dict[str, dict[str, float]]
        For each k the mean of each score over the test splits.

    Raises
    ------
    ValueError
        If it is an event task, or there are less than k neighbours.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> splits = {
    ...     split: SplitEmbeddings(
    ...         list(clips), np.random.rand(len(clips), 8), [1] * len(clips)
    ...     )
    ...     for split, clips in task.clips.items()
    ... }
    >>> sorted(evaluate_neighbours(task, splits, ks=[1, 5]))
    ['k=1', 'k=5']
    """
    if task.embedding_type == "event":
        raise ValueError(
            f"{task.name} is an event task: neighbours are for scene tasks."
        )

    scores: dict[str, dict[str, float]] = {}
    for k in ks:
        found = []
        for run in task.runs():
            known = [*run.train, run.valid]
            targets = [make_targets(task, s, splits[s]) for s in known]
            shares = neighbour_probabilities(
                splits[run.test].read(),
                torch.cat([splits[split].read() for split in known]),
                torch.from_numpy(np.concatenate(targets)),
                k,
            )
            scorer = SplitScorer(task, run.test, splits[run.test])
            shares = shares.clamp(SMALLEST, 1 - SMALLEST)
            logits = shares.log() if scorer.multiclass else shares.logit()
            found.append(scorer.scores(logits))
        scores[f"k={k}"] = {
            key: float(np.mean([row[key] for row in found])) for key in found[0]
        }
    return scores
