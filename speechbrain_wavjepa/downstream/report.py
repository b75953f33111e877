"""Scores of finished tasks beside published ones, as tables and a picture.

    python -m speechbrain_wavjepa.downstream.report RESULTS_DIR

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from speechbrain_wavjepa.downstream.suites import (
    ARCH_PRINTED_SCORES,
    ARCH_PUBLISHED,
    ARCH_TASKS,
    BASELINE,
    HEAR_PUBLISHED,
    generalizability,
)
from speechbrain_wavjepa.downstream.task_scores import TaskScore, read_scores
from speechbrain_wavjepa.utils.plots import plot_scores

# The rows of the paper's ARCH table that are printed beside ours.
ARCH_SHOWN = ("WavJEPA B", "AudioSet HuBERT L", "speech WavLM L", BASELINE)


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
    published = HEAR_PUBLISHED
    if {score.task for score in scores} <= set(ARCH_TASKS.values()):
        published = {name: ARCH_PUBLISHED[name] for name in ARCH_SHOWN}
    widths = [max(len(name), 6) + 2 for name in published]
    heads = "".join(f"{n:>{w}}" for n, w in zip(published, widths))
    width = max(14, *(len(score.short_name) for score in scores))
    lines = [f"{'task':<{width}}{'ours':>14} {heads}"]
    for score in scores:
        name = score.short_name
        cells = "".join(
            f"{row[name]:>{w}.1f}" if name in row else f"{'-':>{w}}"
            for row, w in zip(published.values(), widths)
        )
        lines.append(f"{name:<{width}}{score.percent:>14} {cells}")
    return "\n".join(lines)


def rank(
    models: Mapping[str, Sequence[TaskScore]], baseline: Optional[str] = None
) -> dict[str, float]:
    """Compute s(m), the share of the best gain that each model has.

    Arguments
    ---------
    models : Mapping[str, Sequence[TaskScore]]
        The scores of each model.
    baseline : str, optional
        Which of the models is the baseline, such as HEAR-Naive. Without it,
        models that have all data sets of ARCH are held against the paper's.

    Returns
    -------
    dict[str, float]
        s(m) of each model, 0 to 100; empty if there is nothing to hold them
        against.

    Raises
    ------
    ValueError
        If the baseline is none of the models, tasks differ, or a model has
        the name of a published one.

    Example
    -------
    >>> models = {
    ...     "naive": [TaskScore("own", 0.2)], "ours": [TaskScore("own", 0.5)]
    ... }
    >>> rank(models, "naive")
    {'naive': 0.0, 'ours': 100.0}
    """
    figures = {
        model: {score.short_name: 100 * score.score for score in scores}
        for model, scores in models.items()
    }
    if baseline is not None:
        return generalizability(figures, baseline)
    if any(set(row) != set(ARCH_TASKS) for row in figures.values()):
        return {}
    if published := sorted(set(figures) & set(ARCH_PUBLISHED)):
        raise ValueError(
            f"{published} are rows of the paper's table: give models of yours "
            "other names."
        )
    return generalizability({**ARCH_PUBLISHED, **figures})


def format_ranking(scores: Mapping[str, float]) -> str:
    """Write a table of s(m), beside what the paper prints.

    Arguments
    ---------
    scores : Mapping[str, float]
        s(m) of each model.

    Returns
    -------
    str
        The best model first.

    Example
    -------
    >>> print(format_ranking({"ours": 20.0, "WavJEPA B": 93.48}))
    s(m)                  here  printed
    WavJEPA B             93.5     92.3
    ours                  20.0        -
    """
    lines = [f"{'s(m)':<20}{'here':>6}{'printed':>9}"]
    for name in sorted(scores, key=lambda name: -scores[name]):
        printed = ARCH_PRINTED_SCORES.get(name, "-")
        lines.append(f"{name:<20}{scores[name]:>6.1f}{printed:>9}")
    return "\n".join(lines)


def _name_folders(results_dirs: Sequence[str]) -> dict[str, Path]:
    """Name each folder as none of the others and as no published row."""
    folders = [Path(folder) for folder in results_dirs]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return {
        f"{name} (ours)" if name in ARCH_PUBLISHED else name: folder
        for name, folder in zip(names, folders)
    }


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Print the tables of some results folders and draw them.

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
    parser.add_argument(
        "--baseline",
        metavar="RESULTS_DIR",
        help="which of them s(m) counts gains over, such as HEAR-Naive's",
    )
    parser.add_argument("--picture", help="default: scores.png in the first")
    options = parser.parse_args(arguments)
    try:
        _report(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _report(options: argparse.Namespace) -> None:
    """Print and draw what the command line asks for."""
    folders = _name_folders(options.results_dirs)
    models = {name: read_scores(path) for name, path in folders.items()}
    baseline = options.baseline
    if baseline is not None:
        given = Path(baseline)
        fitting = [n for n, p in folders.items() if given == p] or [
            n for n, p in folders.items() if given.name == p.name
        ]
        baseline = fitting[0] if len(fitting) == 1 else baseline
    ranking = rank(models, baseline)
    for model, scores in models.items():
        print(f"{model}\n{format_scores(scores)}\n")
    if ranking:
        print(f"{format_ranking(ranking)}\n")
    bars = {
        model: {
            s.short_name: (100 * s.score, 100 * (s.deviation or 0))
            for s in scores
        }
        for model, scores in models.items()
    }
    picture = options.picture or Path(options.results_dirs[0]) / "scores.png"
    plot_scores(bars, picture, ranking)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    sys.exit(main())
