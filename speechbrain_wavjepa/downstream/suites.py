"""Suites of tasks, published figures, and the paper's score s(m).

Source: WavJEPA (https://arxiv.org/abs/2509.23238), its appendix B and its
ARCH table; the authors' repository (https://github.com/labhamlet/wavjepa) for
the HEAR row of WavJEPA; the HEAR leaderboard (https://hearbenchmark.com) for
its other rows.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping
from typing import Optional

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
