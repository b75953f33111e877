"""Events: from the probabilities of frames, and how well they are found.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022) and the
definitions of sed_eval (Mesaros et al., "Metrics for Polyphonic Sound Event
Detection", 2016), which it scores with.

Shapes: N frames, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np
from scipy.ndimage import median_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

THRESHOLD = 0.5


class Event(NamedTuple):
    """A label that is heard for some time.

    Arguments
    ---------
    label : str
        What is heard.
    start : float
        Its onset in milliseconds.
    end : float
        Its offset in milliseconds.

    Example
    -------
    >>> Event("dog", 100.0, 400.0).label
    'dog'
    """

    label: str
    start: float
    end: float


# The events of each file.
FileEvents = Mapping[str, Sequence[Event]]


def find_events(
    probabilities: np.ndarray,
    times: np.ndarray,
    labels: Sequence[str],
    median_filter_ms: float = 250.0,
    min_duration: float = 125.0,
) -> list[Event]:
    """Turn the probabilities of a file's frames into events.

    Arguments
    ---------
    probabilities : [N, L]
        Of each label in each frame.
    times : [N]
        Times of the frames in milliseconds, increasing.
    labels : Sequence[str]
        Names of the labels.
    median_filter_ms : float
        Width of the median filter over time; 0 for none.
    min_duration : float
        Events that are shorter, in milliseconds, are left out.

    Returns
    -------
    list of Event
        Label by label, in the order of time.

    Example
    -------
    >>> probabilities = np.array([[0.1], [0.9], [0.8], [0.2]])
    >>> times = np.array([0.0, 100.0, 200.0, 300.0])
    >>> find_events(probabilities, times, ["dog"], 0, 50)
    [Event(label='dog', start=100.0, end=200.0)]
    """
    if median_filter_ms and len(times) > 1:
        spacing = (times[-1] - times[0]) / (len(times) - 1)
        width = round(median_filter_ms / spacing)
        if width:
            probabilities = median_filter(probabilities, size=(width, 1))
    active = np.pad(probabilities > THRESHOLD, ((1, 1), (0, 0)))
    change = np.diff(active.astype(np.int8), axis=0)
    events = []
    for index, label in enumerate(labels):
        starts = np.flatnonzero(change[:, index] == 1)
        ends = np.flatnonzero(change[:, index] == -1) - 1
        for start, end in zip(times[starts].tolist(), times[ends].tolist()):
            if end - start >= min_duration:
                events.append(Event(label, start, end))
    return events


def event_f_measure(
    reference: FileEvents,
    predicted: FileEvents,
    collar: float = 0.2,
    offset_share: Optional[float] = None,
) -> dict[str, float]:
    """Score events whose onset is found, over all files and labels.

    Arguments
    ---------
    reference : mapping of str to sequence of Event
        The true events of each file.
    predicted : mapping of str to sequence of Event
        The events that were found.
    collar : float
        Seconds by which an onset may be off.
    offset_share : float, optional
        Let offsets count too: they may be off by the collar, or by this part
        of the true event's length if that is more.

    Returns
    -------
    dict[str, float]
        f_measure, precision and recall; not a number where there is nothing
        to count.

    Example
    -------
    >>> truth = {"a.wav": [Event("dog", 0, 500), Event("cat", 0, 500)]}
    >>> found = {"a.wav": [Event("dog", 150, 500)]}
    >>> event_f_measure(truth, found)["precision"]
    1.0
    """
    matches = num_reference = num_predicted = 0
    for name in reference:
        truth, found = reference[name], predicted.get(name, ())
        num_reference += len(truth)
        num_predicted += len(found)
        for label in {event.label for event in truth}:
            matches += _count_matches(
                [event for event in truth if event.label == label],
                [event for event in found if event.label == label],
                collar,
                offset_share,
            )
    precision = matches / num_predicted if num_predicted else math.nan
    recall = matches / num_reference if num_reference else math.nan
    total = precision + recall
    f_measure = 2 * precision * recall / total if total else 0.0
    return {"f_measure": f_measure, "precision": precision, "recall": recall}


def _count_matches(truth, found, collar, offset_share) -> int:
    """Count the pairs of the largest matching of one label in one file."""
    if not found:
        return 0
    fits = np.zeros((len(truth), len(found)), dtype=bool)
    for row, true in enumerate(truth):
        for column, event in enumerate(found):
            # in seconds, so that bounds round as in sed_eval
            fit = abs(true.start / 1000 - event.start / 1000) <= collar
            if offset_share is not None:
                length = true.end / 1000 - true.start / 1000
                allowed = max(collar, offset_share * length)
                fit &= abs(true.end / 1000 - event.end / 1000) <= allowed
            fits[row, column] = fit
    matched = maximum_bipartite_matching(csr_matrix(fits), "column")
    return int((matched >= 0).sum())


def segment_error_rate(
    reference: FileEvents, predicted: FileEvents
) -> dict[str, float]:
    """Score the labels that are active in each second, over all files.

    Arguments
    ---------
    reference : mapping of str to sequence of Event
        The true events of each file.
    predicted : mapping of str to sequence of Event
        The events that were found.

    Returns
    -------
    dict[str, float]
        error_rate: substitutions, deletions and insertions over the true
        labels of all seconds; the lower the better.

    Example
    -------
    >>> truth = {"a.wav": [Event("dog", 0, 2000)]}
    >>> segment_error_rate(truth, {"a.wav": [Event("dog", 0, 1000)]})
    {'error_rate': 0.5}
    """
    errors = num_reference = 0
    for name in reference:
        truth = _active_seconds(reference[name])
        found = _active_seconds(predicted.get(name, ()))
        for second in truth.keys() | found.keys():
            true = truth.get(second, set())
            heard = found.get(second, set())
            num_reference += len(true)
            # S + D + I: what is missing or too much, a pair counts once
            errors += max(len(true), len(heard)) - len(true & heard)
    rate = errors / num_reference if num_reference else math.nan
    return {"error_rate": rate}


def _active_seconds(events: Sequence[Event]) -> dict[int, set[str]]:
    """List the labels of each second, from floor(onset) to ceil(offset)."""
    active: dict[int, set[str]] = {}
    for label, start, end in events:
        for second in range(math.floor(start / 1000), math.ceil(end / 1000)):
            active.setdefault(second, set()).add(label)
    return active


EVENT_SCORES = {
    "event_onset_200ms_fms": lambda truth, found: event_f_measure(
        truth, found, 0.2
    ),
    "event_onset_50ms_fms": lambda truth, found: event_f_measure(
        truth, found, 0.05
    ),
    "event_onset_offset_50ms_20perc_fms": lambda truth, found: event_f_measure(
        truth, found, 0.05, 0.2
    ),
    "segment_1s_er": segment_error_rate,
}
LOWER_IS_BETTER = {"segment_1s_er"}
