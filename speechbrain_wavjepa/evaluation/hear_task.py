"""Labelled clips in the layout of the HEAR benchmark.

Source: HEAR, Holistic Evaluation of Audio Representations
(https://arxiv.org/abs/2203.03022). A task folder holds
``task_metadata.json``, ``labelvocabulary.csv``, one json of labels for each
split and the clips as ``<rate>/<split>/*.wav``.

Shapes: n clips, T samples, C channels, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple, Union

import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import read_clip
from speechbrain_wavjepa.evaluation.events import Event
from speechbrain_wavjepa.utils.files import (
    fingerprint,
    hash_file,
    path_inside,
)
from speechbrain_wavjepa.utils.tables import check_there, read_json, read_table

SPLIT_MODES = {
    "trainvaltest": False,
    "presplit_kfold": True,
    "new_split_kfold": True,
}
EMBEDDING_TYPES = ("scene", "event")
PREDICTION_TYPES = ("multiclass", "multilabel")
MAX_VOCABULARY = 2**22  # bytes
MAX_LABELS = 10_000  # of a vocabulary: targets have a column for each


class Run(NamedTuple):
    """Which splits train, select and test.

    Arguments
    ---------
    train : list of str
        Splits to train on.
    valid : str
        The split that stops the training and chooses settings.
    test : str
        The split that is scored.

    Example
    -------
    >>> Run(["train"], "valid", "test").test
    'test'
    """

    train: list[str]
    valid: str
    test: str


def find_task(tasks_dir: Union[str, Path], name: str) -> Path:
    """Find a task in a folder of tasks.

    Arguments
    ---------
    tasks_dir : str or Path
        Holds the folders of tasks.
    name : str
        The name of one.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    ValueError
        If there is no such folder.

    Example
    -------
    >>> find_task("nowhere", "esc50-v2.0.0-full")
    Traceback (most recent call last):
    ...
    ValueError: nowhere has no task 'esc50-v2.0.0-full': it has [].
    """
    folder = path_inside(tasks_dir, name)
    if not folder.is_dir():
        found = sorted(path.name for path in Path(tasks_dir).glob("*/"))
        raise ValueError(f"{tasks_dir} has no task {name!r}: it has {found}.")
    return folder


class HearTask:
    """A task folder, checked when it is read.

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
    >>> HearTask("nowhere")
    Traceback (most recent call last):
    ...
    ValueError: nowhere/task_metadata.json is missing: is nowhere a HEAR ...
    """

    def __init__(self, folder: Union[str, Path], sample_rate: int = 16000):
        self.folder = Path(folder)
        self.sample_rate = sample_rate
        path = self.folder / "task_metadata.json"
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: is {self.folder} a HEAR task folder?"
            )
        self.metadata = read_json(path)
        self.name = self._choose("task_name")
        self.embedding_type = self._choose("embedding_type", EMBEDDING_TYPES)
        self.prediction_type = self._choose("prediction_type", PREDICTION_TYPES)
        self.is_kfold = SPLIT_MODES[self._choose("split_mode", SPLIT_MODES)]
        self.splits = self._list_names("splits")
        self.evaluation = self._list_names("evaluation")
        self.evaluation_params = self.metadata.get("evaluation_params") or {}
        if not isinstance(self.evaluation_params, dict):
            raise ValueError(
                f"{path} has evaluation_params that are no mapping."
            )
        self.labels = self._read_vocabulary()
        self.clips = {split: self._read_split(split) for split in self.splits}

    def _choose(self, key: str, choices=None) -> str:
        """Read an entry of the metadata that is one of some words."""
        value = self._entry(key)
        if not isinstance(value, str) or value not in (choices or [value]):
            listed = f"one of {sorted(choices)}" if choices else "a text"
            raise ValueError(
                f"{self.folder}/task_metadata.json has {key}={value!r}, which "
                f"must be {listed}."
            )
        return value

    def _entry(self, key: str) -> Any:
        """Read an entry of the metadata."""
        if key not in self.metadata:
            raise ValueError(f"{self.folder}/task_metadata.json lacks {key!r}.")
        return self.metadata[key]

    def _list_names(self, key: str) -> list[str]:
        """Read an entry of the metadata that lists names of files."""
        names = self._entry(key)
        if not isinstance(names, list) or not names:
            raise ValueError(
                f"{self.folder}/task_metadata.json has {key}={names!r}, which "
                "must be a list of names."
            )
        for name in names:
            path_inside(self.folder, name)
        if len(set(names)) < len(names) or any("/" in name for name in names):
            raise ValueError(
                f"{self.folder}/task_metadata.json has {key}={names}: each "
                "name must be there once, and without '/'."
            )
        return names

    def _read_vocabulary(self) -> list[str]:
        """Read the labels in the order of their index."""
        path = self.folder / "labelvocabulary.csv"
        rows = read_table(path, ["idx", "label"], max_bytes=MAX_VOCABULARY)
        found = {row["idx"].strip(): row["label"] for row in rows}
        if len(rows) > MAX_LABELS:
            raise ValueError(
                f"{path} has {len(rows)} labels, over {MAX_LABELS}."
            )
        wanted = [str(index) for index in range(len(rows))]
        if sorted(found) != sorted(wanted):
            raise ValueError(
                f"{path} must number its labels from 0 without gaps, got "
                f"{sorted(found)[:10]}."
            )
        return [found[index] for index in wanted]

    def _read_split(self, split: str) -> dict[str, list]:
        """Read the labels or events of each file of a split."""
        path = self.folder / f"{split}.json"
        clips = read_json(path)
        if not clips:
            raise ValueError(f"{path} lists no clip.")
        known = set(self.labels)
        for name, entries in clips.items():
            self.path(split, name)
            if not isinstance(entries, list):
                raise ValueError(
                    f"{path} gives {name} {entries!r}, which must be a list."
                )
            if self.embedding_type == "event":
                found = [_read_event(entry, name, path) for entry in entries]
                used = [event.label for event in found]
            else:
                used = found = [str(label) for label in entries]
            clips[name] = found
            if unknown := sorted(set(used) - known):
                raise ValueError(
                    f"The label {unknown[0]!r} of {name} is not in "
                    f"{self.folder}/labelvocabulary.csv."
                )
            if (
                self.embedding_type == "scene"
                and self.prediction_type == "multiclass"
                and len(found) != 1
            ):
                raise ValueError(
                    f"{path} gives {name} {len(found)} "
                    "labels; in a multiclass task each clip has one."
                )
        return clips

    def runs(self) -> list[Run]:
        """List what to train and test: one run, or one for each fold."""
        if not self.is_kfold:
            missing = {"train", "valid", "test"} - set(self.splits)
            if missing:
                raise ValueError(
                    f"{self.folder} lacks the splits {sorted(missing)}."
                )
            return [Run(["train"], "valid", "test")]
        folds = sorted(self.splits)
        if len(folds) < 3:
            raise ValueError(
                f"{self.folder} has {len(folds)} folds: one tests, one "
                "selects and one or more train, so there must be three."
            )
        runs = []
        for number, test in enumerate(folds):
            valid = folds[(number + 1) % len(folds)]
            train = [fold for fold in folds if fold not in (test, valid)]
            runs.append(Run(train, valid, test))
        return runs

    def path(self, split: str, name: str) -> Path:
        """Tell where a clip lies."""
        clips = path_inside(self.folder / str(self.sample_rate), split)
        return path_inside(clips, name)

    def read_clip(self, split: str, name: str) -> Tensor:
        """Read a clip [T, C].

        Raises
        ------
        ValueError
            If it is missing, empty or of another rate.
        """
        path = self.path(split, name)
        check_there(path)
        try:
            info = soundfile.info(path)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if info.samplerate != self.sample_rate:
            raise ValueError(
                f"{path} has a rate of {info.samplerate} Hz in the folder of "
                f"the copy at {self.sample_rate} Hz: make that copy again."
            )
        if info.frames == 0:
            raise ValueError(f"{path} is empty: take it out of {split}.json.")
        return read_clip(path, self.sample_rate)

    @functools.cached_property
    def hashes(self) -> dict[str, dict[str, str]]:
        """Hash the content of every clip of every split, once.

        Raises
        ------
        ValueError
            If a clip is missing or no regular file.
        """
        hashes: dict[str, dict[str, str]] = {split: {} for split in self.clips}
        total = sum(map(len, self.clips.values()))
        progress = tqdm(total=total, desc=f"hash {self.name}", delay=2)
        with progress:
            for split, clips in self.clips.items():
                for name in clips:
                    path = self.path(split, name)
                    if not path.exists():
                        raise ValueError(
                            f"{path} is missing: see {split}.json."
                        )
                    check_there(path)
                    hashes[split][name] = hash_file(path)
                    progress.update()
        return hashes

    def fingerprints(self) -> dict[str, str]:
        """Tell this task apart from others of its name.

        Returns
        -------
        dict[str, str]
            Fingerprints of the labels and all else that the text files say,
            and of the clips at this rate.
        """
        # the order of clips is that of the rows that probes are trained on
        clips = {
            split: list(clips.items()) for split, clips in self.clips.items()
        }
        return {
            "labels": fingerprint(
                self.metadata, self.labels, list(clips.items())
            ),
            "clips": fingerprint(self.sample_rate, self.hashes),
        }

    def check_leaks(self) -> None:
        """Refuse a clip that lies in two splits, under whatever names.

        Raises
        ------
        ValueError
            If two splits share a file of equal content.
        """
        seen: dict[str, tuple[str, str]] = {}
        for split, hashes in self.hashes.items():
            for name, digest in hashes.items():
                other_split, other = seen.setdefault(digest, (split, name))
                if other_split != split:
                    raise ValueError(
                        f"{split}/{name} is the same clip as "
                        f"{other_split}/{other}: what is tested must not be "
                        "trained on. Take one of them out."
                    )

    def absent_labels(self, run: Run) -> list[str]:
        """List the labels that are tested in a run but not trained on."""

        def labels_of(split: str) -> set[str]:
            return {
                found.label if isinstance(found, Event) else found
                for clip in self.clips[split].values()
                for found in clip
            }

        trained = set().union(*map(labels_of, run.train))
        return sorted(labels_of(run.test) - trained)


def _read_event(entry: Any, name: str, path: Path) -> Event:
    """Read an event of a clip."""
    try:
        event = Event(
            str(entry["label"]), float(entry["start"]), float(entry["end"])
        )
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} gives {name} the event {str(entry)[:200]}, which must "
            "have a label, a start and an end in milliseconds."
        ) from error
    if not (math.isfinite(event.start) and math.isfinite(event.end)):
        raise ValueError(f"{path} gives {name} {event}, which never ends.")
    return event


def read_multiclass_folds(
    task_folder: Union[str, Path], sample_rate: int = 16000
) -> list[tuple[Tensor, Tensor]]:
    """Read all clips of a multiclass task whose clips have one length.

    Arguments
    ---------
    task_folder : str or Path
        The task's folder.
    sample_rate : int
        Rate of the copy to read.

    Returns
    -------
    list of (waveform [n, T, C], labels [n])
        The splits that ``task_metadata.json`` names, in its order.

    Raises
    ------
    ValueError
        If a file of the layout is missing, the task is not multiclass, or a
        label is not in the vocabulary.

    Example
    -------
    >>> read_multiclass_folds("nowhere")
    Traceback (most recent call last):
    ...
    ValueError: nowhere/task_metadata.json is missing: is nowhere a HEAR ...
    """
    task = HearTask(task_folder, sample_rate)
    if (task.embedding_type, task.prediction_type) != ("scene", "multiclass"):
        raise ValueError(
            f"{task_folder} is a {task.prediction_type} {task.embedding_type} "
            "task, a linear probe with one label for each clip needs a "
            "multiclass scene one."
        )
    folds = []
    for split, clips in task.clips.items():
        waveforms = [task.read_clip(split, name) for name in sorted(clips)]
        labels = [task.labels.index(clips[name][0]) for name in sorted(clips)]
        folds.append((torch.stack(waveforms), torch.tensor(labels)))
    return folds
