"""Scores of finished tasks beside published ones, as tables and a picture.

    python -m speechbrain_wavjepa.evaluation.report RESULTS_DIR

Needs matplotlib (``pip install 'speechbrain-wavjepa[plots]'``).

Authors
 * The speechbrain_wavjepa developers 2026

Suites of tasks, published figures, and the paper's score s(m).

Source: WavJEPA (https://arxiv.org/abs/2509.23238), its appendix B and its
ARCH table; the authors' repository (https://github.com/labhamlet/wavjepa) for
the HEAR row of WavJEPA; the HEAR leaderboard (https://hearbenchmark.com) for
its other rows.

Authors
 * The speechbrain_wavjepa developers 2026

The figures of finished tasks, read from the folders of both recipes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.utils.plots import plot_scores
from speechbrain_wavjepa.utils.tables import read_json

# The tasks of the paper's HEAR suite, by their short names.
HEAR_TASKS = {
    "DCASE": "dcase2016_task2-hear2021-full",
    "FSD50K": "fsd50k-v1.0-full",
    "LC": "libricount-v1.0.0-hear2021-full",
    "ESC-50": "esc50-v2.0.0-full",
    "CD": "tfds_crema_d-1.0.0-full",
    "VL": "vox_lingua_top10-hear2021-full",
    "SC-5": "speech_commands-v0.0.2-5h",
    "NS": "nsynth_pitch-v2.2.3-5h",
    "BO": "beijing_opera-v1.0-hear2021-full",
    "Mri-S": "mridangam_stroke-v1.5-full",
    "Mri-T": "mridangam_tonic-v1.5-full",
}

# A suite's baseline; its figures are those of mel features.
BASELINE = "HEAR-Naive"

_HEAR_COLUMNS = "DCASE FSD50K LC ESC-50 CD VL SC-5 NS BO Mri-S Mri-T".split()
_HEAR = {
    "WavJEPA B": [93.9, 54.4, 76.7, 86.5, 71.0, 49.8, 90.0, 34.4]
    + [89.4, 97.3, 88.5],
    "wav2vec2 L": [66.3, 34.2, 69.2, 56.1, 65.6, 49.3, 83.8, 40.2]
    + [90.7, 94.3, 82.8],
    "CREPE": [50.4, 15.9, 49.9, 30.1, 38.3, 14.2, 18.0, 87.0]
    + [92.8, 89.8, 82.4],
}
HEAR_PUBLISHED = {
    model: dict(zip(_HEAR_COLUMNS, row)) for model, row in _HEAR.items()
}
# Of the baseline only these cells of the paper's tables are known here.
HEAR_PUBLISHED[BASELINE] = {
    "DCASE": 7.6,
    "FSD50K": 12.5,
    "SC-5": 13.3,
    "NS": 89.2,
    "Mri-T": 93.7,
}
NAT_HEAR_PUBLISHED = {
    BASELINE: {"DCASE": 0.7, "FSD50K": 8.7, "SC-5": 12.3, "NS": 78.6}
}

# The data sets of the paper's ARCH table, by its names of them.
ARCH_TASKS = {
    "ESC50": "esc50",
    "US8K": "us8k",
    "FSD50K": "fsd50k",
    "VIVAE": "vivae",
    "FMA": "fma_small",
    "MTT": "magna_tag_a_tune",
    "IRMAS": "irmas",
    "MSDB": "medleydb",
    "RAVDESS": "ravdess",
    "AM": "audio_mnist",
    "SLURP": "slurp",
    "EMOVO": "emovo",
}
_ARCH = """
HEAR-Naive|13.0 36.0 2.2 22.0 39.0 9.9 19.9 35.2 22.6 45.7 5.4 18.4
speech W2V2 B|45.7 55.5 19.4 31.5 50.5 37.6 35.1 66.1 55.3 86.4 14.4 31.8
speech WavLM B|49.9 61.8 17.6 36.3 48.7 34.9 32.6 54.2 67.9 99.5 31.0 43.1
speech HuBERT B|58.9 67.3 24.5 40.5 54.6 38.8 36.7 58.5 65.3 99.6 33.8 40.5
speech D2V B|23.6 45.6 10.1 30.2 40.6 27.6 25.9 50.7 48.0 99.1 43.6 27.3
speech W2V2 L|13.1 42.7 5.8 22.0 41.7 21.0 19.9 50.2 11.6 45.7 7.3 19.3
speech WavLM L|67.2 70.9 32.2 42.5 61.1 41.3 42.5 68.0 71.8 99.8 42.3 45.3
speech HuBERT L|64.0 70.0 29.5 41.0 54.8 38.4 36.8 64.1 72.6 99.9 45.3 43.8
speech D2V L|25.4 49.2 10.8 30.6 43.5 28.5 27.1 44.2 45.1 99.2 28.6 23.1
AudioSet W2V2 B|52.6 70.5 21.3 31.3 59.5 37.9 35.9 64.6 45.9 88.1 11.0 30.8
AudioSet HuBERT B|68.8 79.1 31.1 40.1 65.9 43.4 47.7 67.8 63.5 98.8 20.5 33.4
AudioSet W2V2 L|74.4 79.0 37.6 39.7 66.6 44.5 49.9 76.9 59.5 99.4 17.7 38.2
AudioSet HuBERT L|71.5 75.6 37.4 44.3 67.5 43.4 50.5 77.8 73.3 99.6 20.5 38.6
WavJEPA B|83.9 83.5 48.0 44.06 68.2 46.0 59.0 79.5 62.5 99.5 23.3 46.6
"""
ARCH_PUBLISHED = {
    model: dict(zip(ARCH_TASKS, map(float, cells.split())))
    for model, cells in (line.split("|") for line in _ARCH.split("\n")[1:-1])
}
# The s(m) column as printed. The values of the speech-trained WavLM and
# HuBERT stand in each other's rows there, Base and Large, which is undone
# here: the cells of the rows are right.
ARCH_PRINTED_SCORES = {
    "HEAR-Naive": 0.0,
    "speech W2V2 B": 49.7,
    "speech WavLM B": 59.7,
    "speech HuBERT B": 68.0,
    "speech D2V B": 38.8,
    "speech W2V2 L": 8.6,
    "speech WavLM L": 81.5,
    "speech HuBERT L": 75.8,
    "speech D2V L": 35.1,
    "AudioSet W2V2 B": 53.8,
    "AudioSet HuBERT B": 75.5,
    "AudioSet W2V2 L": 80.0,
    "AudioSet HuBERT L": 83.9,
    "WavJEPA B": 92.3,
}


def generalizability(
    figures: Mapping[str, Mapping[str, float]],
    baseline: str = BASELINE,
    best: Optional[Mapping[str, float]] = None,
) -> dict[str, float]:
    """Compute s(m), how much of the best gain a model has on average.

    On each task the gain over the baseline, none if negative, is divided by
    the largest gain of any model; a task on which no model beats the baseline
    counts 0 for all. s(m) is the mean over all tasks, times 100.

    Arguments
    ---------
    figures : Mapping[str, Mapping[str, float]]
        The main score of each model on each task; higher is better.
    baseline : str
        The row of the baseline.
    best : Mapping[str, float], optional
        Best known score of each task, to compare with models that are not in
        the table. No share is larger than 1 then.

    Returns
    -------
    dict[str, float]
        s(m) of each model, 0 to 100.

    Raises
    ------
    ValueError
        If the baseline or a figure is missing.

    Example
    -------
    >>> figures = {
    ...     "HEAR-Naive": {"a": 10.0, "b": 50.0},
    ...     "ours": {"a": 30.0, "b": 40.0},
    ...     "theirs": {"a": 20.0, "b": 60.0},
    ... }
    >>> generalizability(figures)
    {'HEAR-Naive': 0.0, 'ours': 50.0, 'theirs': 75.0}
    """
    if baseline not in figures:
        raise ValueError(
            f"The baseline {baseline!r} is not in the table, which has "
            f"{sorted(figures)}: s(m) counts gains over it."
        )
    tasks = list(figures[baseline])
    for model, row in figures.items():
        if missing := sorted(set(tasks) ^ set(row)):
            raise ValueError(
                f"{model} and {baseline} do not have the same tasks: "
                f"{missing}. s(m) needs a figure of every model on every task."
            )
    scores = {}
    for model, row in figures.items():
        shares = []
        for task in tasks:
            base = figures[baseline][task]
            top = max(other[task] for other in figures.values())
            if best is not None:
                top = best[task]
            gain = max(0.0, row[task] - base)
            shares.append(min(gain / (top - base), 1.0) if top > base else 0.0)
        scores[model] = 100 * sum(shares) / len(shares)
    return scores


HEAR_SCORES = "test.predicted-scores.json"
ARCH_SCORES = "arch-scores.json"
SHORT_NAMES = {
    name: short
    for suite in (HEAR_TASKS, ARCH_TASKS)
    for short, name in suite.items()
}


class TaskScore(NamedTuple):
    """The figure of a task.

    Arguments
    ---------
    task : str
        The task's folder.
    score : float
        Its primary score, the mean over folds.
    std : float, optional
        HEAR: the sample standard deviation over folds. ARCH: that over
        repetitions.

    Example
    -------
    >>> score = TaskScore("esc50-v2.0.0-full", 0.865, 0.033)
    >>> score.short_name, score.percent
    ('ESC-50', '86.5 ± 3.3')
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
        if self.std is None:
            return f"{100 * self.score:.1f}"
        return f"{100 * self.score:.1f} ± {100 * self.std:.1f}"


def read_score(path: Path) -> TaskScore:
    """Read the score of a finished task.

    Arguments
    ---------
    path : Path
        The file of scores that either recipe writes.

    Returns
    -------
    TaskScore
        The primary score.

    Raises
    ------
    ValueError
        If the file is broken.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test.predicted-scores.json"
    >>> _ = path.write_text('{"test": {"test_score": 0.25}}')
    >>> read_score(path).score
    0.25
    """
    results = read_json(path)
    try:
        found = _find_score(path.name, results)
        if not all(isinstance(x, (int, float, type(None))) for x in found):
            raise TypeError(f"{found} are not numbers")
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no score of this package: "
            f"{type(error).__name__}: {error}"
        ) from error
    return TaskScore(path.parent.name, *found)


def _find_score(name: str, results: dict) -> tuple:
    """Find a score, and its std if it has one."""
    if name == ARCH_SCORES:
        main_score = results["scores"][results["main_score"]]
        repeated = any(run["repetition"] for run in results["runs"])
        return (
            main_score["mean"],
            main_score["std"] if repeated else None,
        )
    if "aggregated_scores" in results:
        folds = results["aggregated_scores"]
        return folds["test_score_mean"], folds["test_score_std"]
    return (results["test"]["test_score"],)


def read_scores(results_dir: Union[str, Path]) -> list[TaskScore]:
    """Read the scores of all finished tasks.

    Arguments
    ---------
    results_dir : str or Path
        The output folder of the HEAR or the ARCH recipe.

    Returns
    -------
    list of TaskScore
        In the order of the suite, then tasks of your own.

    Raises
    ------
    ValueError
        If no task is finished there, or tasks of both suites.

    Example
    -------
    >>> read_scores(getfixture("tmp_path"))
    Traceback (most recent call last):
    ...
    ValueError: ... holds no finished task: ...
    """
    folder = Path(results_dir)
    # not what an interrupted run leaves: .esc50.unfinished
    hear = sorted(folder.glob(f"[!.]*/{HEAR_SCORES}"))
    arch = sorted(folder.glob(f"[!.]*/{ARCH_SCORES}"))
    if hear and arch:
        raise ValueError(
            f"{results_dir} holds scores of HEAR and of ARCH: give each its "
            "own output_folder."
        )
    if not hear and not arch:
        raise ValueError(
            f"{results_dir} holds no finished task: give the output_folder of "
            "recipes/HEAR or recipes/ARCH."
        )
    scores = [read_score(path) for path in hear or arch]
    order = list(SHORT_NAMES)
    known = [score for score in scores if score.task in order]
    known.sort(key=lambda score: order.index(score.task))
    return known + [score for score in scores if score.task not in order]


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
        prog="python -m speechbrain_wavjepa.evaluation.report",
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
            s.short_name: (100 * s.score, 100 * (s.std or 0)) for s in scores
        }
        for model, scores in models.items()
    }
    picture = options.picture or Path(options.results_dirs[0]) / "scores.png"
    plot_scores(bars, picture, ranking)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    sys.exit(main())
