"""Labelled clips in the layout of the HEAR benchmark.

Source: HEAR, Holistic Evaluation of Audio Representations
(https://arxiv.org/abs/2203.03022). A task folder holds
``task_metadata.json``, ``labelvocabulary.csv``, one json of labels for each
split and the clips as ``<rate>/<split>/*.wav``.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
import json
from pathlib import Path
from typing import Union

import soundfile
import torch
from torch import Tensor


def read_multiclass_folds(
    task_folder: Union[str, Path], sample_rate: int = 16000
) -> list[tuple[Tensor, Tensor]]:
    """Read all folds of a multiclass task.

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
    metadata_file = Path(task_folder) / "task_metadata.json"
    if not metadata_file.exists():
        raise ValueError(
            f"{metadata_file} is missing: is {task_folder} a HEAR task folder?"
        )
    metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    if metadata["prediction_type"] != "multiclass":
        raise ValueError(
            f"{task_folder} is a {metadata['prediction_type']} task, a linear "
            "probe with one label for each clip needs a multiclass one."
        )
    return [
        _read_split(Path(task_folder), split, sample_rate)
        for split in metadata["splits"]
    ]


def _read_split(
    task_folder: Path, split: str, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Read the clips and labels of one split."""
    vocabulary_file = task_folder / "labelvocabulary.csv"
    labels_file = task_folder / f"{split}.json"
    for file in (vocabulary_file, labels_file):
        if not file.exists():
            raise ValueError(
                f"{file} is missing: is {task_folder} a HEAR task folder "
                f"with the split {split!r}?"
            )
    with open(vocabulary_file, encoding="utf-8") as file:
        vocabulary = {
            row["label"]: int(row["idx"]) for row in csv.DictReader(file)
        }
    names = json.loads(labels_file.read_text(encoding="utf-8"))
    clips, labels = [], []
    for name, (label,) in sorted(names.items()):
        if label not in vocabulary:
            raise ValueError(
                f"The label {label!r} of {name} is not in {vocabulary_file}."
            )
        clip, _ = soundfile.read(
            task_folder / str(sample_rate) / split / name,
            dtype="float32",
            always_2d=True,
        )
        clips.append(torch.from_numpy(clip))
        labels.append(vocabulary[label])
    return torch.stack(clips), torch.tensor(labels)
