"""Scores of scenes and events, against counting by hand."""

import itertools
import math

import numpy as np
import pytest

from speechbrain_wavjepa.evaluation import find_events
from speechbrain_wavjepa.evaluation import hear as probe_evaluation
from speechbrain_wavjepa.evaluation.events import (
    Event,
    event_f_measure,
    segment_error_rate,
)
from speechbrain_wavjepa.evaluation.metrics import (
    area_under_roc,
    chroma_accuracy,
    d_prime,
    mean_average_precision,
    top1_accuracy,
)


def draw(num_rows=40, num_labels=3, seed=0):
    random = np.random.default_rng(seed)
    targets = (random.random((num_rows, num_labels)) < 0.4).astype(np.float32)
    probabilities = random.random((num_rows, num_labels)) + 0.3 * targets
    return probabilities / 2, targets


def test_average_precision_by_hand():
    probabilities, targets = draw()
    expected = []
    for probability, target in zip(probabilities.T, targets.T):
        ranked = target[np.argsort(-probability)]
        precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        expected.append((precision * ranked).sum() / ranked.sum())
    assert mean_average_precision(probabilities, targets) == pytest.approx(
        np.mean(expected)
    )


def test_area_and_d_prime_by_hand():
    probabilities, targets = draw()
    areas = []
    for probability, target in zip(probabilities.T, targets.T):
        pairs = itertools.product(
            probability[target == 1], probability[target == 0]
        )
        areas.append(np.mean([high > low for high, low in pairs]))
    assert area_under_roc(probabilities, targets) == pytest.approx(
        np.mean(areas)
    )

    def quantile(area):  # of a normal distribution, by bisection
        low, high = -10.0, 10.0
        for _ in range(100):
            middle = (low + high) / 2
            below = (1 + math.erf(middle / math.sqrt(2))) / 2
            low, high = (middle, high) if below < area else (low, middle)
        return low

    expected = np.mean([math.sqrt(2) * quantile(area) for area in areas])
    assert d_prime(probabilities, targets) == pytest.approx(expected, abs=1e-9)


def test_labels_that_cannot_be_scored():
    targets = np.array([[1.0, 0.0], [1.0, 1.0]])
    probabilities = np.array([[0.3, 0.2], [0.4, 0.9]])
    assert math.isnan(area_under_roc(probabilities, targets))
    assert math.isnan(d_prime(probabilities, targets))
    assert d_prime(probabilities[:, 1:], targets[:, 1:]) == math.inf
    never = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert mean_average_precision(probabilities, never) == pytest.approx(0.25)


def test_accuracies():
    found = np.eye(24)[[0, 13, 5, 23]]
    true = np.eye(24)[[0, 1, 4, 11]]
    assert top1_accuracy(found, true) == 0.25
    assert chroma_accuracy(found, true) == 0.75


def frames(*probabilities, spacing=50.0):
    rows = np.array(probabilities, dtype=float)[:, None]
    return rows, np.arange(len(rows)) * spacing


def test_runs_of_frames_become_events():
    rows, times = frames(0.9, 0.9, 0.1, 0.6, 0.5, 0.7, 0.8, 0.9)
    assert find_events(rows, times, ["a"], 0, 0) == [
        Event("a", 0.0, 50.0),
        Event("a", 150.0, 150.0),
        Event("a", 250.0, 350.0),
    ]
    assert find_events(rows, times, ["a"], 0, 100) == [Event("a", 250, 350)]


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_the_median_filter_by_hand(width):
    random = np.random.default_rng(width)
    rows = random.random((30, 2))
    times = np.arange(30) * 50.0
    reflected = np.concatenate([rows[::-1], rows, rows[::-1]])
    filtered = np.empty_like(rows)
    for place in range(30):
        start = 30 + place - width // 2
        # the upper of the two middle values where there are two
        window = np.sort(reflected[start : start + width], axis=0)
        filtered[place] = window[width // 2]
    expected = find_events(filtered, times, ["a", "b"], 0, 0)
    found = find_events(rows, times, ["a", "b"], 50.0 * width, 0)
    assert found == expected


def best_matching(truth, found, fits):
    """Try all ways to pair events."""
    if len(found) < len(truth):
        truth, found = found, truth
        return best_matching(truth, found, lambda a, b: fits(b, a))
    return max(
        sum(fits(a, b) for a, b in zip(truth, order))
        for order in itertools.permutations(found, len(truth))
    )


@pytest.mark.parametrize("seed", range(5))
def test_f_measure_by_trying_all_matchings(seed):
    random = np.random.default_rng(seed)

    def draw_events(count):
        starts = random.integers(0, 20, count) * 50.0
        return [Event("a", start, start + 300) for start in starts.tolist()]

    truth, found = draw_events(5), draw_events(4)
    matches = best_matching(
        truth, found, lambda a, b: abs(a.start - b.start) <= 200
    )
    scores = event_f_measure({"f": truth}, {"f": found}, 0.2)
    assert scores["precision"] == pytest.approx(matches / 4)
    assert scores["recall"] == pytest.approx(matches / 5)
    assert scores["f_measure"] == pytest.approx(2 * matches / 9)


def test_f_measure_of_labels_files_and_offsets():
    truth = {"a": [Event("x", 0, 1000), Event("y", 0, 100)], "b": []}
    found = {"a": [Event("y", 0, 1000)], "b": [Event("x", 0, 1000)]}
    assert event_f_measure(truth, found)["f_measure"] == pytest.approx(0.5)
    strict = event_f_measure(truth, found, 0.05, 0.2)
    assert strict == {"f_measure": 0.0, "precision": 0.0, "recall": 0.0}
    near = {"a": [Event("x", 50, 1200)], "b": []}
    assert event_f_measure(truth, near, 0.05, 0.2)["recall"] == 0.5
    assert math.isnan(event_f_measure(truth, {"a": []})["f_measure"])
    assert math.isnan(event_f_measure({"a": []}, found)["f_measure"])


def test_segment_error_rate_by_hand():
    truth = {"f": [Event("x", 500, 2500), Event("y", 1000, 2000)], "g": []}
    found = {"f": [Event("x", 0, 1000), Event("z", 1200, 1300)]}
    found["g"] = [Event("x", 100, 200)]
    # seconds of f: x|x, xy|z, x|-; of g: -|x
    errors = 0 + 2 + 1 + 1
    assert segment_error_rate(truth, found) == {"error_rate": errors / 4}
    assert math.isnan(segment_error_rate({"f": []}, found)["error_rate"])


def test_folds_with_and_without_a_fault():
    """One has d' of inf, the other of -inf: their mean is no error."""
    folds = [
        {"d_prime": math.inf, "mAP": 0.5},
        {"d_prime": -math.inf, "mAP": 1},
    ]
    aggregated = probe_evaluation._aggregate(folds)
    assert aggregated["mAP_mean"] == 0.75
    assert math.isnan(aggregated["d_prime_mean"])
    assert (
        probe_evaluation._aggregate(folds[:1] * 2)["d_prime_mean"] == math.inf
    )
