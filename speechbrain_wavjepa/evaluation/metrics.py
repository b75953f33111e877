"""Scores of scene tasks, as the HEAR kit computes them.

Every score takes the probabilities [n, L] of labels and their targets [n, L]
(1 for the labels of a clip, else 0) and returns a number, higher is better.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from speechbrain_wavjepa.utils.environment import require

PITCH_CLASSES = 12  # of an octave


def top1_accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Share of clips whose likeliest label is the (first) true one."""
    right = probabilities.argmax(axis=1) == targets.argmax(axis=1)
    return float(right.mean())


def chroma_accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Share of clips with the right pitch class; labels are semitones."""
    found = probabilities.argmax(axis=1) % PITCH_CLASSES
    right = found == targets.argmax(axis=1) % PITCH_CLASSES
    return float(right.mean())


def mean_average_precision(
    probabilities: np.ndarray, targets: np.ndarray
) -> float:
    """Mean average precision of labels; one without a positive counts 0."""
    metrics = require("sklearn.metrics", "eval")
    return float(
        metrics.average_precision_score(targets, probabilities, average="macro")
    )


def area_under_roc(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean area under the ROC curve; NaN if a label is in all clips or none."""
    return float(np.mean(_areas(probabilities, targets)))


def d_prime(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Mean d' of labels: sqrt(2) times the normal quantile of the area."""
    areas = np.array(_areas(probabilities, targets))
    return float(math.sqrt(2) * ndtri(areas).mean())


def _areas(probabilities: np.ndarray, targets: np.ndarray) -> list[float]:
    """Compute the area of each label; NaN where there is none."""
    metrics = require("sklearn.metrics", "eval")
    return [
        metrics.roc_auc_score(target, probability)
        if 0 < target.sum() < len(target)
        else math.nan
        for probability, target in zip(probabilities.T, targets.T)
    ]


SCENE_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1_acc": top1_accuracy,
    "pitch_acc": top1_accuracy,
    "chroma_acc": chroma_accuracy,
    "mAP": mean_average_precision,
    "aucroc": area_under_roc,
    "d_prime": d_prime,
}
