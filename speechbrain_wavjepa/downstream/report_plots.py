"""Pictures of scores: task by task, s(m) and confusions.

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NAMES = 2.6  # inches beside the bars of s(m)
MAX_INCHES = 40  # of a confusion matrix, whatever number of labels
MAX_NAME = 40  # letters that are shown


def plot_scores(
    models: Mapping[str, Mapping[str, tuple[float, float]]],
    path: Union[str, Path],
    generalizability: Optional[Mapping[str, float]] = None,
) -> None:
    """Draw the scores of models task by task, and their s(m).

    Arguments
    ---------
    models : Mapping[str, Mapping[str, tuple[float, float]]]
        Score and deviation of each model on each task, in percent.
    path : str or Path
        Where to write the picture.
    generalizability : Mapping[str, float], optional
        s(m) of models, published ones too.

    Example
    -------
    >>> path = getfixture("tmp_path") / "scores.png"
    >>> models = {"ours": {"ESC-50": (50.0, 4.0)}}
    >>> plot_scores(models, path, {"WavJEPA B": 92.3, "ours": 20.0})
    >>> path.stat().st_size > 5000
    True
    """
    tasks = list(dict.fromkeys(task for row in models.values() for task in row))
    sizes = [2 + 0.5 * len(tasks) + 0.25 * len(tasks) * len(models)]
    if generalizability:
        sizes.append(4)
    height = max(4, 0.3 * len(generalizability or ()))
    figure = Figure(figsize=(sum(sizes) + NAMES, height))
    panels = figure.subplots(
        1,
        len(sizes),
        width_ratios=sizes,
        squeeze=False,
        gridspec_kw={"wspace": NAMES * len(sizes) / sum(sizes)},
    )
    _draw_tasks(panels[0, 0], models, tasks)
    if generalizability:
        _draw_ranking(panels[0, 1], generalizability, set(models))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def _show(name: str) -> str:
    """Shorten a name, and keep matplotlib from reading formulas in it."""
    return name[:MAX_NAME].replace("$", r"\$")


def _draw_tasks(axes: Axes, models: Mapping, tasks: Sequence[str]) -> None:
    """Draw a group of bars for each task."""
    width = 0.8 / len(models)
    for number, (model, row) in enumerate(models.items()):
        scores, deviations = zip(*row.values())
        axes.bar(
            [tasks.index(task) + (number + 0.5) * width - 0.4 for task in row],
            scores,
            width,
            yerr=deviations,
            label=_show(model),
        )
    names = [_show(task) for task in tasks]
    axes.set_xticks(range(len(tasks)), names, rotation=20, ha="right")
    axes.set_ylabel("primary score in %")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))


def _draw_ranking(
    axes: Axes, scores: Mapping[str, float], ours: set[str]
) -> None:
    """Draw a bar for each model, the best on top."""
    names = sorted(scores, key=lambda name: scores[name])
    colours = ["black" if name in ours else "silver" for name in names]
    bars = axes.barh(
        [_show(name) for name in names],
        [scores[name] for name in names],
        color=colours,
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlim(0, 110)
    axes.set_xlabel("s(m)")


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
    size = min(2 + 0.35 * len(labels), MAX_INCHES)
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_show(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90)
    axes.set_yticks(range(len(labels)), names)
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
