"""Scores of finished tasks beside published ones, as a table and pictures.

    python -m speechbrain_wavjepa.downstream.report RESULTS_DIR

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
from matplotlib.figure import Figure

from speechbrain_wavjepa.downstream.suites import HEAR_PUBLISHED, HEAR_TASKS

SCORES = "test.predicted-scores.json"
SHORT_NAMES = {folder: short for short, folder in HEAR_TASKS.items()}


class TaskScore(NamedTuple):
    """The figure of a task.

    Arguments
    ---------
    task : str
        The task's folder.
    score : float
        Its primary score, the mean over folds.
    deviation : float, optional
        The sample standard deviation over folds.

    Example
    -------
    >>> TaskScore("esc50-v2.0.0-full", 0.865, 0.033).score
    0.865
    """

    task: str
    score: float
    deviation: Optional[float] = None


def read_scores(results_dir: Union[str, Path]) -> list[TaskScore]:
    """Read the scores of all finished tasks.

    Arguments
    ---------
    results_dir : str or Path
        The output folder of the HEAR recipe.

    Returns
    -------
    list of TaskScore
        By the name of the task.

    Raises
    ------
    ValueError
        If no task is finished there.

    Example
    -------
    >>> read_scores(getfixture("tmp_path"))
    Traceback (most recent call last):
    ...
    ValueError: ... holds no finished task: ...
    """
    scores = []
    for path in sorted(Path(results_dir).glob(f"*/{SCORES}")):
        results = json.loads(path.read_text(encoding="utf-8"))
        if "aggregated_scores" in results:
            folds = results["aggregated_scores"]
            found = folds["test_score_mean"], folds["test_score_std"]
        else:
            found = results["test"]["test_score"], None
        scores.append(TaskScore(path.parent.name, *found))
    if not scores:
        raise ValueError(
            f"{results_dir} holds no finished task: give the output_folder of "
            "recipes/HEAR."
        )
    return scores


def format_scores(scores: Sequence[TaskScore]) -> str:
    """Write a table of scores, with the published ones of the same tasks.

    Arguments
    ---------
    scores : sequence of TaskScore
        The scores.

    Returns
    -------
    str
        In percent.

    Example
    -------
    >>> print(format_scores([TaskScore("esc50-v2.0.0-full", 0.5, 0.04)]))
    task                    ours   WavJEPA B  wav2vec2 L   CREPE  HEAR-Naive
    ESC-50            50.0 ± 4.0        86.5        56.1    30.1           -
    """
    widths = [max(len(name), 6) + 2 for name in HEAR_PUBLISHED]
    heads = "".join(f"{n:>{w}}" for n, w in zip(HEAR_PUBLISHED, widths))
    width = max(14, *(len(_short(score.task)) for score in scores))
    lines = [f"{'task':<{width}}{'ours':>14} {heads}"]
    for score in scores:
        name = _short(score.task)
        ours = f"{100 * score.score:.1f}"
        if score.deviation is not None:
            ours += f" ± {100 * score.deviation:.1f}"
        cells = "".join(
            f"{row[name] if name in row else '-':>{w}}"
            for row, w in zip(HEAR_PUBLISHED.values(), widths)
        )
        lines.append(f"{name:<{width}}{ours:>14} {cells}")
    return "\n".join(lines)


def _short(task: str) -> str:
    """Name a task as the paper does."""
    return SHORT_NAMES.get(task, task)


def plot_scores(
    models: Mapping[str, Sequence[TaskScore]], path: Union[str, Path]
) -> None:
    """Draw the scores of models side by side, task by task.

    Arguments
    ---------
    models : mapping of str to sequence of TaskScore
        Scores of each model.
    path : str or Path
        Where to write the picture.

    Example
    -------
    >>> path = getfixture("tmp_path") / "scores.png"
    >>> plot_scores({"ours": [TaskScore("esc50-v2.0.0-full", 0.5)]}, path)
    >>> path.stat().st_size > 5000
    True
    """
    tasks = list(dict.fromkeys(s.task for row in models.values() for s in row))
    figure = Figure(figsize=(2 + 1.2 * len(tasks), 4))
    axes = figure.subplots()
    width = 0.8 / len(models)
    for number, (model, row) in enumerate(models.items()):
        axes.bar(
            [tasks.index(s.task) + (number + 0.5) * width - 0.4 for s in row],
            [100 * s.score for s in row],
            width,
            yerr=[100 * (s.deviation or 0) for s in row],
            label=model,
        )
    names = [_short(task) for task in tasks]
    axes.set_xticks(range(len(tasks)), names, rotation=20, ha="right")
    axes.set_ylabel("primary score in %")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def plot_confusion(
    predictions: Union[str, Path],
    labels: Sequence[str],
    path: Union[str, Path],
) -> None:
    """Draw which classes are taken for which.

    Arguments
    ---------
    predictions : str or Path
        Predictions of a multiclass split, as the HEAR recipe writes them.
    labels : sequence of str
        Names of the classes.
    path : str or Path
        Where to write the picture.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> one_hot = np.eye(2)[[0, 0, 1]]
    >>> np.savez(folder / "a.npz", logits=one_hot, targets=one_hot)
    >>> plot_confusion(folder / "a.npz", ["dog", "cat"], folder / "a.png")
    >>> (folder / "a.png").stat().st_size > 5000
    True
    """
    with np.load(predictions) as arrays:
        found = arrays["logits"].argmax(axis=1)
        true = arrays["targets"].argmax(axis=1)
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (true, found), 1)
    size = 2 + 0.35 * len(labels)
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("found")
    axes.set_ylabel("true")
    for row, column in zip(*np.nonzero(counts)):
        dark = shares[row, column] > 0.5
        axes.text(
            column,
            row,
            f"{counts[row, column]:.0f}",
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Print the table of some results folders and draw them.

    Arguments
    ---------
    arguments : Sequence[str], optional
        Command line (default: that of the process).

    Returns
    -------
    int
        0, or 2 after an error, which is told in one line.

    Example
    -------
    >>> main(["nowhere"])
    2
    """
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_wavjepa.downstream.report",
        description="Scores of finished tasks beside published ones.",
    )
    parser.add_argument("results_dirs", nargs="+", metavar="RESULTS_DIR")
    parser.add_argument("--picture", help="default: scores.png in the first")
    options = parser.parse_args(arguments)
    try:
        models = {
            Path(folder).name: read_scores(folder)
            for folder in options.results_dirs
        }
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for model, scores in models.items():
        print(f"{model}\n{format_scores(scores)}\n")
    picture = options.picture or Path(options.results_dirs[0]) / "scores.png"
    plot_scores(models, picture)
    print(f"Picture: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
