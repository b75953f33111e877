"""A task's figures from its embeddings: the second half of the HEAR kit.

The grid is searched on the first run; its best settings are trained anew on
the others. Protocol and names of results are those of the HEAR evaluation kit
(https://arxiv.org/abs/2203.03022).

Shapes: R rows, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from speechbrain_wavjepa.evaluation.embeddings import (
    SplitEmbeddings,
    make_targets,
)
from speechbrain_wavjepa.evaluation.events import (
    EVENT_SCORES,
    LOWER_IS_BETTER,
    find_events,
)
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.evaluation.metrics import SCENE_SCORES
from speechbrain_wavjepa.evaluation.probes import (
    GridPoint,
    Rows,
    probe_loss,
    to_probabilities,
    train_probes,
)

EVENT_GRID = {"median_filter_ms": [250], "min_duration": [125, 250]}
MAX_CHOICES = 20  # of each of them, in a task's metadata
MAX_MS = 60_000


class SplitScorer:
    """Scores the logits [R, L] of the rows of a split."""

    def __init__(self, task: HearTask, split: str, embeddings: SplitEmbeddings):
        self.task = task
        self.embeddings = embeddings
        self.targets = make_targets(task, split, embeddings)
        self.multiclass = task.prediction_type == "multiclass"
        self.is_event = task.embedding_type == "event"
        known = EVENT_SCORES if self.is_event else SCENE_SCORES
        if unknown := set(task.evaluation) - set(known):
            raise ValueError(
                f"{task.folder} asks for the scores {sorted(unknown)}; for "
                f"{task.embedding_type} tasks there are {sorted(known)}."
            )
        self.primary = task.evaluation[0]
        self.sign = -1 if self.primary in LOWER_IS_BETTER else 1
        self.truth = {
            name: task.clips[split][name] for name in embeddings.names
        }

    def validate(self, logits: Tensor) -> tuple[float, dict[str, float]]:
        """Compute what is to be maximised, and choose how events are found."""
        choices = self._choices() if self.is_event else [{}]
        if not self.task.metadata.get("use_scoring_for_early_stopping", True):
            return -self._loss(logits), choices[-1]
        name = self.primary
        scored = [(self._scores(logits, x, [name])[name], x) for x in choices]
        # as the kit: NaN counts 0, and of equal ones the larger settings win
        score, choice = max(
            reversed(scored), key=lambda s: 0.0 if math.isnan(s[0]) else s[0]
        )
        return self.sign * score, choice

    def scores(
        self, logits: Tensor, choice: Optional[Mapping[str, float]] = None
    ) -> dict[str, float]:
        """Compute all scores of the task, under the kit's names."""
        scores = self._scores(logits, choice, self.task.evaluation)
        first = {"loss": self._loss(logits), "score": scores[self.primary]}
        return {f"test_{name}": v for name, v in {**first, **scores}.items()}

    def _loss(self, logits: Tensor) -> float:
        """Compute the loss that probes are trained with."""
        targets = torch.from_numpy(self.targets).to(logits.device)
        return probe_loss(logits[None], targets, self.multiclass).item()

    def _scores(self, logits, choice, names) -> dict[str, float]:
        """Compute scores; the first part of an event's bears its name."""
        probabilities = to_probabilities(logits, self.multiclass)
        values, scores = probabilities.numpy(force=True), {}
        if not self.is_event:
            return {n: SCENE_SCORES[n](values, self.targets) for n in names}
        times, labels = self.embeddings.times, self.task.labels
        found = {
            name: find_events(values[rows], times[rows], labels, **choice)
            for name, rows in self.embeddings.slices()
        }
        for name in names:
            parts = EVENT_SCORES[name](self.truth, found)
            scores[name] = next(iter(parts.values()))
            scores |= {f"{name}_{part}": v for part, v in parts.items()}
        return scores

    def _choices(self) -> list[dict[str, float]]:
        """List the ways to find events, the larger settings last."""
        params = self.task.evaluation_params
        grid = params.get("event_postprocessing_grid") or EVENT_GRID
        if not (
            isinstance(grid, dict)
            and set(grid) == set(EVENT_GRID)
            and all(
                isinstance(values, list)
                and 1 <= len(values) <= MAX_CHOICES
                and all(isinstance(v, (int, float)) for v in values)
                and all(0 <= v <= MAX_MS for v in values)
                for values in grid.values()
            )
        ):
            raise ValueError(
                f"{self.task.folder} has event_postprocessing_grid={grid}: it "
                f"must have {list(EVENT_GRID)}, each up to {MAX_CHOICES} "
                f"milliseconds from 0 to {MAX_MS}."
            )
        points = itertools.product(*grid.values())
        return [dict(zip(grid, values)) for values in sorted(points)]


def evaluate_task(
    task: HearTask,
    splits: Mapping[str, SplitEmbeddings],
    points: Sequence[GridPoint],
    device: str = "cpu",
    seed: int = 42,
) -> dict[str, Any]:
    """Train probes on a task's embeddings and test the best.

    Arguments
    ---------
    task : HearTask
        The task.
    splits : Mapping[str, SplitEmbeddings]
        Embeddings of each split, as ``embed_task`` gives them.
    points : sequence of GridPoint
        The settings to choose from, such as of ``sample_grid``.
    device : str
        Where to train.
    seed : int
        Source of initial weights and dropout.

    Returns
    -------
    dict[str, Any]
        As the kit's ``test.predicted-scores.json``, and "runs" with the
        probe, logits and scorer of each test split.

    Raises
    ------
    ValueError
        If the task asks for an unknown score or an absurd grid of events.

    Example
    -------
    >>> from speechbrain_wavjepa.evaluation.embeddings import embed_task
    >>> task = HearTask(getfixture("task_folder"))
    >>> splits = embed_task(
    ...     task, lambda x: x[:, :8, 0], "8 samples", getfixture("tmp_path")
    ... )
    >>> results = evaluate_task(task, splits, [GridPoint(max_epochs=6)])
    >>> sorted(results["test"])[:3]
    ['epoch', 'test_loss', 'test_mAP']
    """
    results: dict[str, Any] = {}
    runs = {}

    def rows(split: str) -> Tensor:
        return splits[split].read().to(device)

    for number, run in enumerate(task.runs()):
        start = time.perf_counter()
        scorers = {
            split: SplitScorer(task, split, splits[split])
            for split in (*run.train, run.valid, run.test)
        }
        targets = [scorers[split].targets for split in run.train]
        train = Rows(
            torch.cat([rows(split) for split in run.train]),
            torch.from_numpy(np.concatenate(targets)).to(device),
        )
        valid, scorer = scorers[run.valid], scorers[run.test]
        probes = train_probes(
            points,
            train,
            rows(run.valid),
            valid.validate,
            valid.multiclass,
            seed + number,
        )
        probe = max(probes, key=lambda p: p.score)  # the first of equals
        points = [probe.point]  # the other runs take the first one's choice
        with torch.no_grad():
            logits = probe.bank(rows(run.test))[0]
        runs[run.test] = (probe, logits, scorer)
        results[run.test] = {
            **scorer.scores(logits, probe.choice),
            "validation_score": scorer.sign * probe.score,
            "epoch": probe.epoch,
            "time_in_min": (time.perf_counter() - start) / 60,
        }
    probe, _, scorer = next(iter(runs.values()))
    if len(runs) > 1:
        results["aggregated_scores"] = _aggregate(list(results.values()))
    results["hparams"] = probe.point._asdict()
    results["postprocessing"] = list(map(list, probe.choice.items()))
    results["score_mode"] = "min" if scorer.sign < 0 else "max"
    results["runs"] = runs
    return results


def _aggregate(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Compute mean and sample std over folds."""
    aggregated = {}
    for key in results[0]:
        values = [float(result[key]) for result in results]
        # a label that is found without fault has an infinite d'
        with np.errstate(invalid="ignore"):
            aggregated[f"{key}_mean"] = float(np.mean(values))
            aggregated[f"{key}_std"] = float(np.std(values, ddof=1))
    return aggregated
