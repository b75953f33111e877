"""Scores of scene tasks, as the HEAR kit computes them.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022).

Shapes: n clips, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
import statistics
from collections.abc import Callable

import numpy as np

from speechbrain_wavjepa.utils.environment import require

# Twelve pitch classes to an octave.
PITCH_CLASSES = 12


def top1_accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Compute the share of clips whose likeliest label is the first true one.

    Arguments
    ---------
    probabilities : [n, L]
        Of each label.
    targets : [n, L]
        1 for the labels of the clip, else 0.

    Returns
    -------
    float
        Between 0 and 1.

    Example
    -------
    >>> probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
    >>> top1_accuracy(probabilities, np.array([[0, 1], [0, 1]]))
    0.5
    """
    right = probabilities.argmax(axis=1) == targets.argmax(axis=1)
    return float(right.mean())


def chroma_accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Compute the share of clips with the right pitch class, in any octave.

    Arguments
    ---------
    probabilities : [n, L]
        Of each pitch, in semitones upwards.
    targets : [n, L]
        1 for the pitch of the clip, else 0.

    Returns
    -------
    float
        Between 0 and 1.

    Example
    -------
    >>> chroma_accuracy(np.eye(24)[[12, 1]], np.eye(24)[[0, 2]])
    0.5
    """
    found = probabilities.argmax(axis=1) % PITCH_CLASSES
    right = found == targets.argmax(axis=1) % PITCH_CLASSES
    return float(right.mean())


def mean_average_precision(
    probabilities: np.ndarray, targets: np.ndarray
) -> float:
    """Average the average precision of all labels.

    A label without a positive counts 0, as in scikit-learn.

    Arguments
    ---------
    probabilities : [n, L]
        Of each label.
    targets : [n, L]
        1 for the labels of the clip, else 0.

    Returns
    -------
    float
        Between 0 and 1.

    Example
    -------
    >>> probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
    >>> mean_average_precision(probabilities, np.array([[0, 1], [1, 0]]))
    1.0
    """
    metrics = require("sklearn.metrics", "eval")
    return float(
        metrics.average_precision_score(targets, probabilities, average="macro")
    )


def area_under_roc(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Average the area under the receiver's operating curve of all labels.

    Arguments
    ---------
    probabilities : [n, L]
        Of each label.
    targets : [n, L]
        1 for the labels of the clip, else 0.

    Returns
    -------
    float
        Between 0 and 1; not a number if a label is in all clips or in none.

    Example
    -------
    >>> probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
    >>> area_under_roc(probabilities, np.array([[0, 1], [1, 0]]))
    1.0
    """
    return float(np.mean(_areas(probabilities, targets)))


def d_prime(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Average d' of all labels: sqrt(2) times the normal quantile of the area.

    Arguments
    ---------
    probabilities : [n, L]
        Of each label.
    targets : [n, L]
        1 for the labels of the clip, else 0.

    Returns
    -------
    float
        Infinite if a label is found without fault; not a number if it is in
        all clips or in none.

    Example
    -------
    >>> probabilities = np.array([[0.9], [0.6], [0.4], [0.1]])
    >>> round(d_prime(probabilities, np.array([[1], [0], [1], [0]])), 3)
    0.954
    """
    return float(
        np.mean([_d_prime_of(area) for area in _areas(probabilities, targets)])
    )


def _areas(probabilities: np.ndarray, targets: np.ndarray) -> list[float]:
    """Compute the area of each label."""
    metrics = require("sklearn.metrics", "eval")
    return [
        metrics.roc_auc_score(target, probability)
        if 0 < target.sum() < len(target)
        else math.nan
        for probability, target in zip(probabilities.T, targets.T)
    ]


def _d_prime_of(area: float) -> float:
    """Turn an area into d'."""
    if math.isnan(area):
        return math.nan
    if area in (0, 1):
        return math.inf if area else -math.inf
    return math.sqrt(2) * statistics.NormalDist().inv_cdf(area)


SCENE_SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1_acc": top1_accuracy,
    "pitch_acc": top1_accuracy,
    "chroma_acc": chroma_accuracy,
    "mAP": mean_average_precision,
    "aucroc": area_under_roc,
    "d_prime": d_prime,
}
