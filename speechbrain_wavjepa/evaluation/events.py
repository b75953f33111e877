"""Events: from the probabilities of frames, and how well they are found.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022) and the
definitions of sed_eval (Mesaros et al., "Metrics for Polyphonic Sound Event
Detection", 2016), which it scores with.

Shapes: N frames, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np
from scipy.ndimage import median_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

THRESHOLD = 0.5  # of the probability of a label that is on


class Event(NamedTuple):
    """A label that is on from ``start`` to ``end``, in milliseconds."""

    label: str
    start: float
    end: float


FileEvents = Mapping[str, Sequence[Event]]  # the events of each file


def find_events(
    probabilities: np.ndarray,
    times: np.ndarray,
    labels: Sequence[str],
    median_filter_ms: float = 250.0,
    min_duration: float = 125.0,
) -> list[Event]:
    """Turn probabilities [N, L] at ``times`` [N] in milliseconds into events.

    Arguments
    ---------
    probabilities, times : [N, L], [N] np.ndarray
        Of each label at each time; in milliseconds.
    labels : sequence of str
        The L labels.
    median_filter_ms, min_duration : float, float
        Of the filter (0 for none); shorter events are left out.

    Example
    -------
    >>> times = np.arange(0.0, 500.0, 100.0)
    >>> barks = np.array([[0.1], [0.9], [0.9], [0.9], [0.1]])
    >>> [event] = find_events(barks, times, ["bark"], median_filter_ms=0)
    >>> event.label, float(event.start)
    ('bark', 100.0)
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

    An onset may be off by ``collar`` seconds; with ``offset_share`` an offset
    by that too, or by this part of the true event's length if that is more.
    """
    matches = num_reference = num_predicted = 0
    for name in reference:
        truth, found = reference[name], predicted.get(name, ())
        num_reference += len(truth)
        num_predicted += len(found)
        if truth and found:
            fits = _fit(truth, found, collar, offset_share)
            matched = maximum_bipartite_matching(csr_matrix(fits), "column")
            matches += int((matched >= 0).sum())
    precision = matches / num_predicted if num_predicted else math.nan
    recall = matches / num_reference if num_reference else math.nan
    total = precision + recall
    f_measure = 2 * precision * recall / total if total else 0.0
    return {"f_measure": f_measure, "precision": precision, "recall": recall}


def _fit(truth, found, collar, offset_share) -> np.ndarray:
    """Tell which true events [rows] fit which of the found ones [columns]."""
    labels, starts, ends = (np.array(x)[:, None] for x in zip(*truth))
    found_labels, found_starts, found_ends = map(np.array, zip(*found))
    # in seconds, so that bounds round as in sed_eval
    late = abs(starts / 1000 - found_starts / 1000)
    fits = (labels == found_labels) & (late <= collar)
    if offset_share is not None:
        length = ends / 1000 - starts / 1000
        late = abs(ends / 1000 - found_ends / 1000)
        fits &= late <= np.maximum(collar, offset_share * length)
    return fits


def segment_error_rate(
    reference: FileEvents, predicted: FileEvents
) -> dict[str, float]:
    """Substitutions, deletions and insertions over the true labels of seconds.

    Counted over all files; the lower the better, NaN without a true event.
    """
    errors = num_reference = 0
    for name in reference:
        true = _active_seconds(reference[name])
        found = _active_seconds(predicted.get(name, ()))
        num_reference += len(true)
        # S + D + I: what is missing or too much, a pair counts once. The union
        # of counters is the larger count of labels in each second.
        counts = [Counter(second for second, _ in x) for x in (true, found)]
        errors += sum((counts[0] | counts[1]).values()) - len(true & found)
    return {"error_rate": errors / num_reference if num_reference else math.nan}


def _active_seconds(events: Sequence[Event]) -> set[tuple[int, str]]:
    """List seconds and their labels, from floor(onset) to ceil(offset)."""
    return {
        (second, event.label)
        for event in events
        for second in range(
            math.floor(event.start / 1000), math.ceil(event.end / 1000)
        )
    }


EVENT_SCORES = {
    "event_onset_200ms_fms": functools.partial(event_f_measure, collar=0.2),
    "event_onset_50ms_fms": functools.partial(event_f_measure, collar=0.05),
    "event_onset_offset_50ms_20perc_fms": functools.partial(
        event_f_measure, collar=0.05, offset_share=0.2
    ),
    "segment_1s_er": segment_error_rate,
}
LOWER_IS_BETTER = {"segment_1s_er"}
