"""Makes a task in the layout of HEAR out of labelled files.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import csv
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import soundfile
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import read_clip
from speechbrain_wavjepa.dataio.shards import is_clip_name
from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.utils import tables
from speechbrain_wavjepa.utils.files import (
    atomic_folder,
    claim,
    fingerprint,
    hash_file,
    hold,
    is_made,
    path_inside,
)

NUM_FOLDS = 5
EVENT_SCORES = ["event_onset_200ms_fms", "segment_1s_er"]
SCENE_SCORES = ["top1_acc", "mAP", "d_prime", "aucroc"]
TAG_SCORES = ["mAP", "d_prime", "aucroc"]


class LabelledFile(NamedTuple):
    """A file, its labels (events: start and end in ms) and its split."""

    path: Path
    labels: list[tuple[str, Optional[float], Optional[float]]]
    split: Optional[str]


def read_class_folders(folder: Union[str, Path]) -> list[LabelledFile]:
    """List the files of folders that bear the names of two or more classes."""
    files = [
        LabelledFile(path, [(path.parent.name, None, None)], None)
        for path in sorted(Path(folder).glob("*/*"))
        if is_clip_name(path.name)
    ]
    for file in files:
        name = file.path.relative_to(folder).as_posix()
        path_inside(folder, name)
        if name != name.encode(errors="replace").decode():
            raise ValueError(f"The name {name!r} is not UTF-8: rename it.")
    classes = {file.labels[0][0] for file in files}
    if len(classes) < 2:
        raise ValueError(
            f"{folder} has {len(classes)} folders with sounds: put the files "
            "of each class into a folder of its name, two or more."
        )
    return files


def read_table(path: Union[str, Path]) -> list[LabelledFile]:
    """List the files of a CSV table: file, label, and start, end, split.

    A file may have several rows; it is found from the table's folder.
    """
    path = Path(path)
    rows = tables.read_table(
        path, ["file", "label"], optional=["start", "end", "split"]
    )
    times = {"start", "end"} & set(rows[0])
    if len(times) == 1:
        raise ValueError(f"{path} has a column {times.pop()} only: give both.")
    files: dict[str, LabelledFile] = {}
    for number, row in enumerate(rows, 1):
        start = end = None
        if times:
            start, end = (
                _read_time(row[key], f"Row {number} of {path}")
                for key in ("start", "end")
            )
        split = row.get("split") or None
        # wherever it lies, it is only read; its stem is in names of clips
        path_inside(path.parent, Path(row["file"]).stem)
        place = os.path.abspath(path.parent / row["file"])
        made = LabelledFile(Path(place), [], split)
        known = files.setdefault(place, made)
        if known.split != split:
            raise ValueError(
                f"{path} puts {row['file']} into the splits {known.split!r} "
                f"and {split!r}: choose one."
            )
        known.labels.append((row["label"], start, end))
    return list(files.values())


def _read_time(text: str, place: str) -> float:
    """Read milliseconds out of a cell."""
    with contextlib.suppress(ValueError):
        if math.isfinite(time := float(text)):
            return time
    raise ValueError(
        f"{place} has {text!r} where milliseconds must be: every event "
        "has a start and an end."
    )


def write_task(
    folder: Union[str, Path],
    files: Sequence[LabelledFile],
    name: str,
    sample_rate: int = 16000,
    seed: int = 0,
) -> dict[str, int]:
    """Write a task and count the clips of its splits, drawn if none is given.

    A task that is there already, made of the same, is kept. Scenes get five
    folds with as equal shares of the labels as can be, events a training,
    validation and test split of 60, 20 and 20 %.
    """
    folder = Path(folder)
    timed = {start is not None for f in files for _, start, _ in f.labels}
    if len(timed) != 1:
        raise ValueError("Either all labels have a start and an end, or none.")
    is_event = timed == {True}
    splits = _split(files, is_event, seed)
    for split in splits:
        path_inside(folder, split)
        if "/" in split or split == "task_metadata":
            raise ValueError(f"A split cannot be called {split!r}: rename it.")
    for file in files:
        tables.check_there(file.path)
    made_of = {
        "name": name,
        "sample_rate": sample_rate,
        "seed": seed,
        "sounds_and_labels": fingerprint(
            [[f.path.stem, hash_file(f.path), *f[1:]] for f in files]
        ),
    }
    with hold(folder):
        if not is_made(folder, made_of):
            with atomic_folder(folder) as aside:
                claim(aside, made_of)
                _write_splits(aside, splits, name, sample_rate, is_event)
                HearTask(aside, sample_rate).check_leaks()
    return {split: len(members) for split, members in splits.items()}


def _write_splits(
    folder: Path,
    splits: Mapping[str, Sequence[LabelledFile]],
    name: str,
    sample_rate: int,
    is_event: bool,
) -> None:
    """Write all files of a task."""
    files = [file for members in splits.values() for file in members]
    multilabel = is_event or any(len(file.labels) != 1 for file in files)
    scores = TAG_SCORES if multilabel else SCENE_SCORES
    is_kfold = "fold00" in splits
    labels = sorted({label for f in files for label, _, _ in f.labels})
    lengths = set()
    progress = tqdm(total=len(files), desc=f"write {name}", unit=" clips")
    with progress:
        for split, members in splits.items():
            lengths |= _write_split(folder, split, members, sample_rate)
            progress.update(len(members))
    (duration, *others) = sorted(lengths)
    metadata = {
        "task_name": name,
        "version": "v1",
        "mode": "full",
        "embedding_type": "event" if is_event else "scene",
        "prediction_type": "multilabel" if multilabel else "multiclass",
        "split_mode": "new_split_kfold" if is_kfold else "trainvaltest",
        "splits": list(splits),
        "sample_duration": None if others else duration / sample_rate,
        "evaluation": EVENT_SCORES if is_event else scores,
    }
    text = json.dumps(metadata, indent=2)
    (folder / "task_metadata.json").write_text(text, encoding="utf-8")
    with open(
        folder / "labelvocabulary.csv", "w", encoding="utf-8", newline=""
    ) as file:
        csv.writer(file).writerows([("idx", "label"), *enumerate(labels)])


def _split(
    files: Sequence[LabelledFile], is_event: bool, seed: int
) -> dict[str, list[LabelledFile]]:
    """Sort files into splits, drawn if none are given."""
    given = {file.split for file in files}
    shuffled = list(files)
    random.Random(seed).shuffle(shuffled)
    names = [f"fold{number:02d}" for number in range(NUM_FOLDS)]
    if None not in given:
        known = ["train", "valid", "test"]
        names = known if given == set(known) else sorted(given)
        members = {
            name: [file for file in files if file.split == name]
            for name in names
        }
    elif given != {None}:
        raise ValueError("Some files have a split and some have none.")
    elif is_event:
        first, second = (len(files) * share // 5 for share in (3, 4))
        members = {
            "train": shuffled[:first],
            "valid": shuffled[first:second],
            "test": shuffled[second:],
        }
    else:
        # label by label, one file to each fold in turn
        shuffled.sort(key=lambda file: sorted(x for x, _, _ in file.labels))
        members = {
            name: shuffled[number::NUM_FOLDS]
            for number, name in enumerate(names)
        }
    if empty := [name for name, found in members.items() if not found]:
        raise ValueError(
            f"{len(files)} files leave the splits {empty} without a clip: "
            "give more files."
        )
    return members


def _write_split(
    folder: Path, split: str, files: Sequence[LabelledFile], sample_rate: int
) -> set[int]:
    """Write the clips and labels of a split; return the clips' lengths."""
    clips = folder / str(sample_rate) / split
    clips.mkdir(parents=True)
    entries, lengths = {}, set()
    for number, (path, labels, _) in enumerate(files):
        waveform = read_clip(path, sample_rate)
        name = f"{number:05d}_{path.stem}.wav"
        soundfile.write(clips / name, waveform.numpy(), sample_rate, "PCM_16")
        lengths.add(len(waveform))
        entries[name] = [
            label
            if start is None
            else {"label": label, "start": start, "end": end}
            for label, start, end in labels
        ]
    text = json.dumps(entries, indent=1)
    (folder / f"{split}.json").write_text(text, encoding="utf-8")
    return lengths
