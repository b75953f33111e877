"""Scores of finished tasks beside published ones, as tables and a picture.

    python -m speechbrain_wavjepa.evaluation.report RESULTS_DIR

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``). Published
figures, their sources and the folders of tasks stand in ``published/*.csv``.
In the paper (https://arxiv.org/abs/2509.23238) the values of s(m) of the
speech-trained WavLM and HuBERT stand in each other's rows, Base and Large;
they are exchanged here, since the cells of the rows are right.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.utils.plots import plot_scores
from speechbrain_wavjepa.utils.tables import read_json

BASELINE = "HEAR-Naive"  # mel features
HEAR_SCORES = "test.predicted-scores.json"
ARCH_SCORES = "arch-scores.json"


class Suite(NamedTuple):
    """The tasks of the paper's tables and their published figures."""

    folders: dict[str, str]  # of each task
    figures: dict[str, dict[str, float]]  # of each model, in percent
    printed: dict[str, float]  # s(m) of each model


def read_suite(name: str) -> Suite:
    """Read a suite's csv: a row for each task, a column for each model."""
    path = Path(__file__).parent / "published" / f"{name}.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = {row.pop("task"): row for row in csv.DictReader(file)}
    folders = {task: row.pop("folder") for task, row in rows.items()}
    folders = {task: folder for task, folder in folders.items() if folder}
    figures = {
        model: {t: float(rows[t][model]) for t in folders if rows[t][model]}
        for model in rows["source"]
    }
    printed = {m: float(cell) for m, cell in rows.get("s(m)", {}).items()}
    return Suite(folders, figures, printed)


HEAR, NAT_HEAR, ARCH = map(read_suite, ("hear", "nat_hear", "arch"))
SHORT_NAMES = {f: t for suite in (HEAR, ARCH) for t, f in suite.folders.items()}
# The columns of the paper's ARCH table that are printed beside ours.
ARCH_SHOWN = ("WavJEPA B", "AudioSet HuBERT L", "speech WavLM L", BASELINE)


def generalizability(
    figures: Mapping[str, Mapping[str, float]], baseline: str = BASELINE
) -> dict[str, float]:
    """Compute the paper's s(m): what part of the best gain each model has.

    On each task the gain over the baseline, none if negative, is divided by
    the largest gain of any model; a task on which no model beats the baseline
    counts 0 for all. s(m) is the mean over all tasks, times 100.
    """
    if baseline not in figures:
        raise ValueError(
            f"The baseline {baseline!r} is not in the table, which has "
            f"{sorted(figures)}: s(m) counts gains over it."
        )
    base = figures[baseline]
    gains: dict[str, dict[str, float]] = {}
    for model, row in figures.items():
        if missing := sorted(set(base) ^ set(row)):
            raise ValueError(
                f"{model} and {baseline} do not have the same tasks: "
                f"{missing}. s(m) needs a figure of every model on every task."
            )
        gains[model] = {task: max(0.0, row[task] - base[task]) for task in base}
    most = {task: max(row[task] for row in gains.values()) for task in base}
    return {
        model: 100 * sum(row[t] / (most[t] or 1.0) for t in base) / len(base)
        for model, row in gains.items()
    }


class TaskScore(NamedTuple):
    """The primary score of a task's folder: its mean and std over folds.

    That of ARCH is the std over repetitions, if there are any.
    """

    task: str
    score: float
    std: Optional[float] = None

    @property
    def short_name(self) -> str:
        """Name the task as the paper does."""
        return SHORT_NAMES.get(self.task, self.task)

    @property
    def percent(self) -> str:
        """Write the figure."""
        std = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.score:.1f}{std}"


def read_score(path: Path) -> TaskScore:
    """Read the score of a finished task from the file of either recipe."""
    results = read_json(path)
    try:
        if path.name == ARCH_SCORES:
            main = results["scores"][results["main_score"]]
            repeated = any(run["repetition"] for run in results["runs"])
            found = main["mean"], main["std"] if repeated else None
        elif "aggregated_scores" in results:
            folds = results["aggregated_scores"]
            found = folds["test_score_mean"], folds["test_score_std"]
        else:
            found = (results["test"]["test_score"],)
        if not all(isinstance(x, (int, float, type(None))) for x in found):
            raise TypeError(f"{found} are not numbers")
    except (AttributeError, KeyError, TypeError) as error:
        problem = f"no score of this package: {type(error).__name__}: {error}"
        raise ValueError(f"{path} holds {problem}") from error
    return TaskScore(path.parent.name, *found)


def read_scores(results_dir: Union[str, Path]) -> list[TaskScore]:
    """Read all finished tasks: in the suite's order, then tasks of your own."""
    # not what an interrupted run leaves: .esc50.unfinished
    hear, arch = (
        sorted(Path(results_dir).glob(f"[!.]*/{name}"))
        for name in (HEAR_SCORES, ARCH_SCORES)
    )
    if bool(hear) == bool(arch):
        found = "scores of HEAR and of ARCH" if hear else "no finished task"
        raise ValueError(
            f"{results_dir} holds {found}: give the output_folder of one run "
            "of recipes/HEAR or recipes/ARCH."
        )
    order = [*SHORT_NAMES, *(path.parent.name for path in hear or arch)]
    scores = map(read_score, hear or arch)
    return sorted(scores, key=lambda score: order.index(score.task))


def format_scores(scores: Sequence[TaskScore]) -> str:
    """Write a table in percent, with published scores of the same tasks."""
    published = HEAR.figures
    if {score.task for score in scores} <= set(ARCH.folders.values()):
        published = {name: ARCH.figures[name] for name in ARCH_SHOWN}
    rows = [["task", "ours", *published]]
    for score in scores:
        found = [row.get(score.short_name) for row in published.values()]
        cells = ["-" if x is None else f"{x:.1f}" for x in found]
        rows.append([score.short_name, score.percent, *cells])
    width = max(14, *(len(row[0]) for row in rows))
    widths = [max(len(name), 6) + 2 for name in published]
    return "\n".join(
        f"{task:<{width}}{ours:>14} "
        + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths))
        for task, ours, *cells in rows
    )


def format_ranking(scores: Mapping[str, float]) -> str:
    """Write a table of s(m), the best first, beside what the paper prints."""
    lines = [f"{'s(m)':<20}{'here':>6}{'printed':>9}"]
    for name, score in sorted(scores.items(), key=lambda row: -row[1]):
        lines.append(f"{name:<20}{score:>6.1f}{ARCH.printed.get(name, '-'):>9}")
    return "\n".join(lines)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Print the tables of some results folders and draw them; 2 if it fails."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_wavjepa.evaluation.report",
        description="Scores of finished tasks beside published ones.",
    )
    parser.add_argument("results_dirs", nargs="+", metavar="RESULTS_DIR")
    parser.add_argument("--baseline", help="the folder s(m) counts gains over")
    parser.add_argument("--picture", help="default: scores.png in the first")
    options = vars(parser.parse_args(arguments))
    try:
        print_report(**options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def print_report(
    results_dirs: Sequence[str], baseline: Optional[str], picture: Optional[str]
) -> None:
    """Print and draw the scores of some results folders, and s(m).

    Without a baseline among the folders, s(m) needs all data sets of ARCH.
    """
    folders = [Path(folder) for folder in results_dirs]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    names = [f"{n} (ours)" if n in ARCH.figures else n for n in names]
    models = {name: read_scores(path) for name, path in zip(names, folders)}
    bars = {
        model: {x.short_name: (100 * x.score, 100 * (x.std or 0)) for x in row}
        for model, row in models.items()
    }
    figures = {m: {t: x for t, (x, _) in bars[m].items()} for m in bars}
    ranking: dict[str, float] = {}
    if baseline is not None:
        given = Path(baseline)
        fitting = (n for n, p in zip(names, folders) if given in (p, Path(n)))
        ranking = generalizability(figures, next(fitting, baseline))
    elif all(set(row) == set(ARCH.folders) for row in figures.values()):
        ranking = generalizability({**ARCH.figures, **figures})
    for model, scores in models.items():
        print(f"{model}\n{format_scores(scores)}\n")
    if ranking:
        print(f"{format_ranking(ranking)}\n")
    picture = picture or Path(results_dirs[0]) / "scores.png"
    plot_scores(bars, picture, ranking)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    sys.exit(main())
