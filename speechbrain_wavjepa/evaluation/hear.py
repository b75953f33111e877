"""A task's figures, from its embeddings: the HEAR kit's second half.

The grid is searched on the first run; its best settings are trained anew on
the others. Results have the kit's names, so that its readers can read them.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022).

Shapes: R rows, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

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
    Event,
    find_events,
)
from speechbrain_wavjepa.evaluation.hear_task import HearTask, Run
from speechbrain_wavjepa.evaluation.metrics import SCENE_SCORES
from speechbrain_wavjepa.evaluation.probes import (
    GridPoint,
    Rows,
    TrainedProbe,
    probe_loss,
    to_probabilities,
    train_probes,
)

EVENT_GRID = {"median_filter_ms": [250], "min_duration": [125, 250]}
MAX_CHOICES = 20  # of each of them, in a task's metadata
MAX_MS = 60_000


class SplitScorer:
    """Scores the logits of a split.

    Arguments
    ---------
    task : HearTask
        The task.
    split : str
        The split.
    embeddings : SplitEmbeddings
        Its embeddings.

    Raises
    ------
    ValueError
        If the task asks for a score that does not exist.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> names = list(task.clips["test"])
    >>> split = SplitEmbeddings(names, np.zeros((6, 1)), [1] * 6)
    >>> scorer = SplitScorer(task, "test", split)
    >>> scorer.scores(10 * torch.from_numpy(scorer.targets))["test_score"]
    1.0
    """

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
        if self.is_event:
            self.truth = {
                name: task.clips[split][name] for name in embeddings.names
            }

    def validate(self, logits: Tensor) -> tuple[float, Any]:
        """Compute what is to be maximised, and choose how events are found."""
        if not self.task.metadata.get("use_scoring_for_early_stopping", True):
            targets = torch.from_numpy(self.targets).to(logits.device)
            loss = probe_loss(logits[None], targets, self.multiclass)
            choice = self._choices()[-1] if self.is_event else {}
            return -loss.item(), choice
        probabilities = self._probabilities(logits)
        if not self.is_event:
            score = SCENE_SCORES[self.primary](probabilities, self.targets)
            return self.sign * score, {}
        best = None
        for choice in self._choices():
            score = self._event_scores(probabilities, choice)[self.primary]
            counted = 0.0 if math.isnan(score) else score
            # the kit takes the larger settings where scores are equal
            if best is None or counted >= best[0]:
                best = (counted, score, choice)
        return self.sign * best[1], best[2]

    def scores(self, logits: Tensor, choice: Any = None) -> dict[str, float]:
        """Compute all scores of the task, under the kit's names."""
        targets = torch.from_numpy(self.targets).to(logits.device)
        loss = probe_loss(logits[None], targets, self.multiclass).item()
        probabilities = self._probabilities(logits)
        if self.is_event:
            found = self._event_scores(probabilities, choice)
        else:
            found = {
                name: SCENE_SCORES[name](probabilities, self.targets)
                for name in self.task.evaluation
            }
        named = {f"test_{name}": score for name, score in found.items()}
        return {
            "test_loss": loss,
            "test_score": found[self.primary],
            **named,
        }

    def _probabilities(self, logits: Tensor) -> np.ndarray:
        """Turn logits into probabilities."""
        return to_probabilities(logits, self.multiclass).numpy(force=True)

    def _choices(self) -> list[dict[str, float]]:
        """List the ways to find events, the larger settings last."""
        grid = (
            self.task.evaluation_params.get("event_postprocessing_grid")
            or EVENT_GRID
        )
        for name in EVENT_GRID:
            values = grid.get(name) if isinstance(grid, dict) else None
            if (
                not isinstance(values, list)
                or not 1 <= len(values) <= MAX_CHOICES
                or len(grid) > len(EVENT_GRID)
                or not all(isinstance(v, (int, float)) for v in values)
                or not all(0 <= value <= MAX_MS for value in values)
            ):
                raise ValueError(
                    f"{self.task.folder} has event_postprocessing_grid={grid}: "
                    f"it must have {list(EVENT_GRID)}, each up to "
                    f"{MAX_CHOICES} milliseconds from 0 to {MAX_MS}."
                )
        points = [
            dict(zip(grid, values))
            for values in itertools.product(*grid.values())
        ]
        return sorted(points, key=lambda point: tuple(point.values()))

    def find(
        self, probabilities: np.ndarray, choice: Mapping[str, float]
    ) -> dict[str, list[Event]]:
        """Find the events of each file."""
        found, start = {}, 0
        for name, count in zip(self.embeddings.names, self.embeddings.num_rows):
            stop = start + count
            found[name] = find_events(
                probabilities[start:stop],
                self.embeddings.times[start:stop],
                self.task.labels,
                **choice,
            )
            start = stop
        return found

    def _event_scores(
        self, probabilities: np.ndarray, choice: Mapping[str, float]
    ) -> dict[str, float]:
        """Score events: a score's first part bears its name."""
        found = self.find(probabilities, choice)
        scores = {}
        for name in self.task.evaluation:
            parts = EVENT_SCORES[name](self.truth, found)
            scores[name] = next(iter(parts.values()))
            scores |= {f"{name}_{part}": v for part, v in parts.items()}
        return scores


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
        Embeddings of each split.
    points : sequence of GridPoint
        The settings to choose from.
    device : str
        Where to train.
    seed : int
        Source of initial weights and dropout.

    Returns
    -------
    dict[str, Any]
        As the kit's ``test.predicted-scores.json``, and "runs" with the
        probes, targets and logits of each test split.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> splits = {
    ...     split: SplitEmbeddings(
    ...         list(clips), np.random.rand(len(clips), 8), [1] * len(clips)
    ...     )
    ...     for split, clips in task.clips.items()
    ... }
    >>> results = evaluate_task(task, splits, [GridPoint(max_epochs=6)])
    >>> sorted(results)[:3]
    ['hparams', 'postprocessing', 'runs']
    """
    results: dict[str, Any] = {}
    runs = {}
    for number, run in enumerate(task.runs()):
        start = time.perf_counter()
        probe, logits, scorer = _evaluate_run(
            task, splits, run, points, device, seed + number
        )
        points = [probe.point]  # the other runs take the first one's choice
        runs[run.test] = (probe, logits, scorer)
        results[run.test] = {
            **scorer.scores(logits, probe.choice),
            "validation_score": scorer.sign * probe.score,
            "epoch": probe.epoch,
            "time_in_min": (time.perf_counter() - start) / 60,
        }
    first = next(iter(runs.values()))
    if len(runs) > 1:
        results["aggregated_scores"] = _aggregate(list(results.values()))
    results["hparams"] = first[0].point._asdict()
    results["postprocessing"] = list(map(list, (first[0].choice or {}).items()))
    results["score_mode"] = "min" if first[2].sign < 0 else "max"
    results["runs"] = runs
    return results


def _evaluate_run(
    task: HearTask,
    splits: Mapping[str, SplitEmbeddings],
    run: Run,
    points: Sequence[GridPoint],
    device: str,
    seed: int,
) -> tuple[TrainedProbe, Tensor, SplitScorer]:
    """Train on one run's splits and compute the logits of its test split."""

    def rows(split: str) -> Tensor:
        return splits[split].read().to(device)

    train = Rows(
        torch.cat([rows(split) for split in run.train]),
        torch.cat(
            [
                torch.from_numpy(make_targets(task, split, splits[split]))
                for split in run.train
            ]
        ).to(device),
    )
    scorer = SplitScorer(task, run.valid, splits[run.valid])
    probes = train_probes(
        points, train, rows(run.valid), scorer.validate, scorer.multiclass, seed
    )
    best = max(probes, key=lambda probe: probe.score)  # the first of equals
    with torch.no_grad():
        logits = best.bank(rows(run.test))[0]
    return best, logits, SplitScorer(task, run.test, splits[run.test])


def _aggregate(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average over folds, with the sample's standard deviation."""
    aggregated = {}
    for key in results[0]:
        values = [float(result[key]) for result in results]
        # a label that is found without fault has an infinite d'
        finite = all(map(math.isfinite, values))
        aggregated[f"{key}_mean"] = (
            statistics.fmean(values) if finite else sum(values) / len(values)
        )
        with np.errstate(invalid="ignore"):
            aggregated[f"{key}_std"] = float(np.std(values, ddof=1))
    return aggregated
