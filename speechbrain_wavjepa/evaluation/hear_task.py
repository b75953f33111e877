"""Task folders of HEAR: their labels, splits and clips.

Source: HEAR, Holistic Evaluation of Audio Representations
(https://arxiv.org/abs/2203.03022). A task folder holds
``task_metadata.json``, ``labelvocabulary.csv``, one json of labels for each
split and the clips as ``<rate>/<split>/*.wav``. Others wrote these files: all
that is read is bounded, and every name is checked before it is a path.

Shapes: n clips, T samples, C channels, N tokens of a clip, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import read_clip
from speechbrain_wavjepa.evaluation.events import Event
from speechbrain_wavjepa.utils.files import fingerprint, hash_file, path_inside
from speechbrain_wavjepa.utils.tables import check_there, read_json, read_table

METADATA = "task_metadata.json"
VOCABULARY = "labelvocabulary.csv"
TYPES = ("scene", "event")
KINDS = ("multiclass", "multilabel")
MODES = ("trainvaltest", "presplit_kfold", "new_split_kfold")
MAX_VOCABULARY = 2**22  # bytes
MAX_LABELS = 10_000  # of a vocabulary: targets have a column for each


def _are_names(names: Any) -> bool:
    """Tell whether an entry of the metadata lists names of files."""
    return (
        isinstance(names, list)
        and 0 < len(names) == len(set(map(str, names)))
        and all(path_inside(".", name) and "/" not in name for name in names)
    )


NAMES = ("a list of names, each once and without '/'", _are_names)
# what the entries of the metadata must be, and the checks
ENTRIES: dict[str, tuple[str, Callable]] = {
    "task_name": ("a text", lambda value: isinstance(value, str)),
    "embedding_type": (f"one of {TYPES}", TYPES.__contains__),
    "prediction_type": (f"one of {KINDS}", KINDS.__contains__),
    "split_mode": (f"one of {MODES}", MODES.__contains__),
    "splits": NAMES,
    "evaluation": NAMES,
    "evaluation_params": ("a mapping", lambda v: isinstance(v or {}, dict)),
}


class Run(NamedTuple):
    """Which splits train, which one selects settings, which one is tested."""

    train: list[str]
    valid: str
    test: str


def find_task(tasks_dir: Union[str, Path], name: str) -> Path:
    """Find the folder of a task in a folder of tasks."""
    folder = path_inside(tasks_dir, name)
    if not folder.is_dir():
        found = sorted(path.name for path in Path(tasks_dir).glob("*/"))
        raise ValueError(f"{tasks_dir} has no task {name!r}: it has {found}.")
    return folder


class HearTask:
    """A task folder of HEAR, checked when it is read.

    Arguments
    ---------
    folder : str or Path
        The task's folder.
    sample_rate : int
        Rate of the copy of the clips to read.

    Raises
    ------
    ValueError
        If a file of the layout is missing, broken or leads out of the folder,
        or a label is not in the vocabulary.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> task.labels, task.clips["test"]["0.wav"], task.runs()[0].test
    (['high', 'low'], ['low'], 'test')
    """

    def __init__(self, folder: Union[str, Path], sample_rate: int = 16000):
        self.folder = Path(folder)
        self.sample_rate = sample_rate
        path = self.folder / METADATA
        self.metadata = read_json(path)
        found = {"evaluation_params": None, **self.metadata}
        for key, (wanted, is_good) in ENTRIES.items():
            if key not in found:
                raise ValueError(f"{path} lacks {key!r}.")
            if not is_good(found[key]):
                raise ValueError(
                    f"{path} has {key}={found[key]!r}, which must be {wanted}."
                )
        self.name = found["task_name"]
        self.embedding_type = found["embedding_type"]
        self.prediction_type = found["prediction_type"]
        self.is_kfold = found["split_mode"].endswith("kfold")
        self.splits, self.evaluation = found["splits"], found["evaluation"]
        self.evaluation_params = found["evaluation_params"] or {}
        kind = self.embedding_type, self.prediction_type
        self.has_one_label = kind == ("scene", "multiclass")  # of each clip
        self.labels = self._read_vocabulary()
        self.columns = {label: n for n, label in enumerate(self.labels)}
        self.clips = {split: self._read_split(split) for split in self.splits}

    def _read_vocabulary(self) -> list[str]:
        """Read the labels in the order of their index."""
        path = self.folder / VOCABULARY
        rows = read_table(path, ["idx", "label"], max_bytes=MAX_VOCABULARY)
        found = {row["idx"].strip(): row["label"] for row in rows}
        wanted = [str(index) for index in range(len(rows))]
        if len(rows) > MAX_LABELS or sorted(found) != sorted(wanted):
            raise ValueError(
                f"{path} must number its labels from 0 without gaps, at most "
                f"{MAX_LABELS}, got {sorted(found)[:10]}."
            )
        return [found[index] for index in wanted]

    def _read_split(self, split: str) -> dict[str, list]:
        """Read the labels or events of each clip of a split."""
        path = self.folder / f"{split}.json"
        clips = read_json(path)
        if not clips:
            raise ValueError(f"{path} lists no clip.")
        for name, entries in clips.items():
            self.path(split, name)
            where = f"{path} gives {name}"
            if not isinstance(entries, list):
                raise ValueError(f"{where} {entries!r}, which must be a list.")
            if self.embedding_type == "event":
                clips[name] = [_read_event(entry, where) for entry in entries]
            else:
                clips[name] = [str(label) for label in entries]
            if unknown := _labels_of(clips[name]) - self.columns.keys():
                raise ValueError(
                    f"{where} the label {min(unknown)!r}: not in {VOCABULARY}."
                )
            if self.has_one_label and len(entries) != 1:
                raise ValueError(f"{where} {len(entries)} labels, not one.")
        return clips

    def runs(self) -> list[Run]:
        """List what to train and test: one run, or one for each fold."""
        if not self.is_kfold:
            if missing := {"train", "valid", "test"} - set(self.splits):
                raise ValueError(
                    f"{self.folder} lacks the splits {sorted(missing)}."
                )
            return [Run(["train"], "valid", "test")]
        folds = sorted(self.splits)
        if len(folds) < 3:
            raise ValueError(
                f"{self.folder} has {len(folds)} folds: to train, to select "
                "and to test, there must be three."
            )
        return [
            Run([f for f in folds if f not in (test, valid)], valid, test)
            for test, valid in zip(folds, folds[1:] + folds[:1])
        ]

    def path(self, split: str, name: str) -> Path:
        """Tell where a clip lies."""
        clips = path_inside(self.folder / str(self.sample_rate), split)
        return path_inside(clips, name)

    def read_clip(self, split: str, name: str) -> Tensor:
        """Read a clip [T, C]; one that is missing or broken is an error."""
        path = self.path(split, name)
        rate = read_header(path).samplerate
        if rate != self.sample_rate:
            raise ValueError(
                f"{path} has a rate of {rate} Hz in the folder of the copy at "
                f"{self.sample_rate} Hz: make that copy again."
            )
        return read_clip(path, self.sample_rate)

    def targets(
        self, split: str, name: str, times: Optional[np.ndarray] = None
    ) -> np.ndarray:
        """Make a clip's targets [1, L]: 1 for its labels.

        Of an event task those of its tokens [N, L], at the ``times`` [N] in
        milliseconds: 1 from the start of an event to its end.
        """
        found = self.clips[split][name]
        count = 1 if times is None else len(times)
        targets = np.zeros((count, len(self.labels)), np.float32)
        if times is None:
            targets[0, [self.columns[label] for label in found]] = 1
            return targets
        for event in found:
            # the kit's tolerance at the end of an event
            on = (event.start <= times) & (times < event.end + 1e-4)
            targets[on, self.columns[event.label]] = 1
        return targets

    @functools.cached_property
    def hashes(self) -> dict[str, dict[str, str]]:
        """The SHA-256 of every clip of every split, computed once."""
        places = [
            (s, name) for s, clips in self.clips.items() for name in clips
        ]
        hashes: dict[str, dict[str, str]] = {split: {} for split in self.clips}
        for split, name in tqdm(places, desc=f"hash {self.name}", delay=2):
            check_there(self.path(split, name))
            hashes[split][name] = hash_file(self.path(split, name))
        return hashes

    def fingerprints(self) -> dict[str, str]:
        """Hash all that the text files say, and the clips at this rate."""
        # the order of clips is that of the rows that probes are trained on
        clips = [[split, list(c.items())] for split, c in self.clips.items()]
        return {
            "labels": fingerprint(self.metadata, self.labels, clips),
            "clips": fingerprint(self.sample_rate, self.hashes),
        }

    def check_leaks(self) -> None:
        """Refuse a clip that lies in two splits, under whatever names."""
        seen: dict[str, tuple[str, str]] = {}
        for split, hashes in self.hashes.items():
            for name, digest in hashes.items():
                other_split, other = seen.setdefault(digest, (split, name))
                if other_split != split:
                    raise ValueError(
                        f"{split}/{name} is the same clip as {other_split}/"
                        f"{other}: test on no clip that is trained on."
                    )

    def absent_labels(self, run: Run) -> list[str]:
        """List the labels that are tested in a run but not trained on."""

        def used(split: str) -> set[str]:
            return set().union(*map(_labels_of, self.clips[split].values()))

        return sorted(used(run.test).difference(*map(used, run.train)))


def _labels_of(found: list[Union[str, Event]]) -> set[str]:
    """Collect the labels of a clip."""
    return {x.label if isinstance(x, Event) else x for x in found}


def _read_event(entry: Any, where: str) -> Event:
    """Read an event of a clip."""
    try:
        start, end = float(entry["start"]), float(entry["end"])
        event = Event(str(entry["label"]), start, end)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} the event {str(entry)[:200]}, which must have a label, "
            "a start and an end in milliseconds."
        ) from error
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError(f"{where} {event}, which never ends.")
    return event


def read_header(path: Union[str, Path]) -> Any:
    """Read the header of a sound file that has samples."""
    check_there(path)
    try:
        info = soundfile.info(path) if os.path.getsize(path) else None
    except (soundfile.LibsndfileError, TypeError) as error:  # of a name in .raw
        raise ValueError(f"{path} cannot be read: {error}") from error
    if info is None or info.frames == 0:
        raise ValueError(f"{path} is empty.")
    return info


def read_multiclass_folds(
    task_folder: Union[str, Path], sample_rate: int = 16000
) -> list[tuple[Tensor, Tensor]]:
    """Read the splits of a multiclass task: waveform [n, T, C], labels [n].

    All clips must have one length; the splits come in the metadata's order.
    """
    task = HearTask(task_folder, sample_rate)
    if not task.has_one_label:
        kind = f"{task.prediction_type} {task.embedding_type}"
        raise ValueError(f"{task_folder} is {kind}, not multiclass scene.")
    folds = []
    for split, clips in task.clips.items():
        waveforms = [task.read_clip(split, name) for name in sorted(clips)]
        labels = [task.columns[clips[name][0]] for name in sorted(clips)]
        folds.append((torch.stack(waveforms), torch.tensor(labels)))
    return folds
