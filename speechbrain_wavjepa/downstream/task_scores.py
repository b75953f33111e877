"""The figures of finished tasks, read from the folders of both recipes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.downstream.files import read_json
from speechbrain_wavjepa.downstream.suites import ARCH_TASKS, HEAR_TASKS

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
    deviation : float, optional
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
    deviation: Optional[float] = None

    @property
    def short_name(self) -> str:
        """Name the task as the paper does."""
        return SHORT_NAMES.get(self.task, self.task)

    @property
    def percent(self) -> str:
        """Write the figure."""
        if self.deviation is None:
            return f"{100 * self.score:.1f}"
        return f"{100 * self.score:.1f} ± {100 * self.deviation:.1f}"


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
    """Find a score, and its deviation if it has one."""
    if name == ARCH_SCORES:
        main_score = results["scores"][results["main_score"]]
        repeated = any(run["repetition"] for run in results["runs"])
        return (
            main_score["mean"],
            main_score["deviation"] if repeated else None,
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
