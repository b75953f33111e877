"""Labelled clips in the layout of the HEAR benchmark.

Source: HEAR, Holistic Evaluation of Audio Representations
(https://arxiv.org/abs/2203.03022). A task folder holds
``task_metadata.json``, ``labelvocabulary.csv``, one json of labels for each
split and the clips as ``<rate>/<split>/*.wav``.

Shapes: n clips, T samples, C channels, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import NamedTuple, Union

import soundfile
import torch
from torch import Tensor

from speechbrain_wavjepa.downstream.events import Event

SPLIT_MODES = {
    "trainvaltest": False,
    "presplit_kfold": True,
    "new_split_kfold": True,
}
EMBEDDING_TYPES = ("scene", "event")
PREDICTION_TYPES = ("multiclass", "multilabel")


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
        If a file of the layout is missing or a label is not in the
        vocabulary.

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
        self.metadata = json.loads(self._read_text("task_metadata.json"))
        self.name = self._choose("task_name")
        self.embedding_type = self._choose("embedding_type", EMBEDDING_TYPES)
        self.prediction_type = self._choose("prediction_type", PREDICTION_TYPES)
        self.is_kfold = SPLIT_MODES[self._choose("split_mode", SPLIT_MODES)]
        self.splits: list[str] = list(self._choose("splits"))
        self.evaluation: list[str] = list(self._choose("evaluation"))
        self.labels = self._read_vocabulary()
        self.clips = {split: self._read_split(split) for split in self.splits}

    def _read_text(self, name: str) -> str:
        """Read a file of the layout."""
        path = self.folder / name
        if not path.exists():
            raise ValueError(
                f"{path} is missing: is {self.folder} a HEAR task folder?"
            )
        return path.read_text(encoding="utf-8")

    def _choose(self, key: str, choices=None):
        """Read an entry of the metadata and check it."""
        if key not in self.metadata:
            raise ValueError(f"{self.folder}/task_metadata.json lacks {key!r}.")
        value = self.metadata[key]
        if choices is not None and value not in choices:
            raise ValueError(
                f"{self.folder}/task_metadata.json has {key}={value!r}, which "
                f"must be one of {sorted(choices)}."
            )
        return value

    def _read_vocabulary(self) -> list[str]:
        """Read the labels in the order of their index."""
        lines = self._read_text("labelvocabulary.csv").splitlines()
        rows = {int(row["idx"]): row["label"] for row in csv.DictReader(lines)}
        if sorted(rows) != list(range(len(rows))):
            raise ValueError(
                f"{self.folder}/labelvocabulary.csv must number its labels "
                f"from 0 without gaps, got {sorted(rows)}."
            )
        return [rows[index] for index in range(len(rows))]

    def _read_split(self, split: str) -> dict[str, list]:
        """Read the labels or events of each file of a split."""
        clips = json.loads(self._read_text(f"{split}.json"))
        if not clips:
            raise ValueError(f"{self.folder}/{split}.json lists no clip.")
        known = set(self.labels)
        for name, found in clips.items():
            if self.embedding_type == "event":
                found = [
                    Event(str(e["label"]), float(e["start"]), float(e["end"]))
                    for e in found
                ]
                used = [event.label for event in found]
            else:
                used = found = [str(label) for label in found]
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
                    f"{self.folder}/{split}.json gives {name} {len(found)} "
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
        return self.folder / str(self.sample_rate) / split / name

    def read_clip(self, split: str, name: str) -> Tensor:
        """Read a clip [T, C].

        Raises
        ------
        ValueError
            If it is missing, empty or of another rate.
        """
        path = self.path(split, name)
        try:
            clip, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if rate != self.sample_rate:
            raise ValueError(
                f"{path} has a rate of {rate} Hz in the folder of the copy at "
                f"{self.sample_rate} Hz: make that copy again."
            )
        if len(clip) == 0:
            raise ValueError(f"{path} is empty: take it out of {split}.json.")
        return torch.from_numpy(clip)

    def check_leaks(self) -> None:
        """Refuse a clip that lies in two splits, under whatever names.

        Raises
        ------
        ValueError
            If two splits share a file of equal content.
        """
        seen: dict[bytes, tuple[str, str]] = {}
        for split, clips in self.clips.items():
            for name in clips:
                path = self.path(split, name)
                if not path.exists():
                    raise ValueError(f"{path} is missing: see {split}.json.")
                digest = hashlib.sha256(path.read_bytes()).digest()
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
