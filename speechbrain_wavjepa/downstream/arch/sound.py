"""ARCH's data sets of sound events: ESC-50, UrbanSound8K, FSD50K, VIVAE.

Each function takes the folder that holds the files as they are published.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path

from speechbrain_wavjepa.evaluation.arch_dataset import (
    ArchDataset,
    count_classes,
    cyclic_runs,
    fold_runs,
    given_run,
    multi_hot,
    one_hot,
)
from speechbrain_wavjepa.evaluation.tables import find_files, read_table
from speechbrain_wavjepa.utils.files import path_inside

VALID_SHARE = 0.2  # of the folds that are not tested
VIVAE_SPEAKERS = [f"S{number:02d}" for number in range(1, 12)]


def read_esc50(folder: Path) -> ArchDataset:
    """Read ESC-50: five folds of environmental sounds.

    Arguments
    ---------
    folder : Path
        Holds ``meta/esc50.csv`` and ``audio/``.

    Returns
    -------
    ArchDataset
        2,000 clips of 50 classes.

    Raises
    ------
    ValueError
        If the table is missing or another one.

    Example
    -------
    >>> read_esc50(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/meta/esc50.csv is missing: ...
    """
    columns = ["filename", "fold", "target", "category"]
    rows = read_table(folder / "meta" / "esc50.csv", columns)
    paths = [path_inside(folder / "audio", row["filename"]) for row in rows]
    return _make_folds("esc50", rows, paths, "target", "category")


def read_us8k(folder: Path) -> ArchDataset:
    """Read UrbanSound8K: ten folds of sounds of a city.

    Arguments
    ---------
    folder : Path
        Holds ``metadata/UrbanSound8K.csv`` and ``audio/fold1/`` and so on.

    Returns
    -------
    ArchDataset
        8,732 clips of 10 classes.

    Raises
    ------
    ValueError
        If the table is missing or another one.

    Example
    -------
    >>> read_us8k(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/metadata/UrbanSound8K.csv is missing: ...
    """
    columns = ["slice_file_name", "fold", "classID", "class"]
    rows = read_table(folder / "metadata" / "UrbanSound8K.csv", columns)
    paths = [
        path_inside(
            path_inside(folder / "audio", f"fold{row['fold']}"),
            row["slice_file_name"],
        )
        for row in rows
    ]
    return _make_folds("us8k", rows, paths, "classID", "class")


def _make_folds(
    name: str,
    rows: list[dict[str, str]],
    paths: list[Path],
    number: str,
    label: str,
) -> ArchDataset:
    """Make a data set of folds; two columns number and name the classes."""
    classes = [int(row[number]) for row in rows]
    names = {n: row[label] for n, row in zip(classes, rows)}
    labels = [names.get(n, str(n)) for n in range(count_classes(classes))]
    return ArchDataset(
        name,
        paths,
        one_hot(classes, len(labels)),
        labels,
        False,
        fold_runs([row["fold"] for row in rows], VALID_SHARE),
        [],
    )


def read_fsd50k(folder: Path) -> ArchDataset:
    """Read FSD50K: clips of Freesound with any number of labels.

    Arguments
    ---------
    folder : Path
        Holds ``FSD50K.ground_truth/``, ``FSD50K.dev_audio/`` and
        ``FSD50K.eval_audio/``.

    Returns
    -------
    ArchDataset
        51,197 clips of 200 labels.

    Raises
    ------
    ValueError
        If a table is missing or another one.

    Example
    -------
    >>> read_fsd50k(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/FSD50K.ground_truth/dev.csv is missing: ...
    """
    tables = folder / "FSD50K.ground_truth"
    dev = read_table(tables / "dev.csv", ["fname", "labels", "split"])
    evaluation = read_table(tables / "eval.csv", ["fname", "labels"])
    found = [row["labels"].split(",") for row in [*dev, *evaluation]]
    labels = sorted({label for names in found for label in names})
    part = {"train": "train", "val": "valid"}
    if unknown := {row["split"] for row in dev} - set(part):
        raise ValueError(
            f"{tables / 'dev.csv'} has the splits {sorted(unknown)} besides "
            f"{sorted(part)}."
        )
    paths = [
        path_inside(folder / f"FSD50K.{place}_audio", f"{row['fname']}.wav")
        for place, rows in (("dev", dev), ("eval", evaluation))
        for row in rows
    ]
    splits = [part[row["split"]] for row in dev] + ["test"] * len(evaluation)
    return ArchDataset(
        "fsd50k",
        paths,
        multi_hot(found, labels),
        labels,
        True,
        [given_run(splits)],
        [],
    )


def read_vivae(folder: Path) -> ArchDataset:
    """Read VIVAE: non-verbal cries of eleven speakers.

    Arguments
    ---------
    folder : Path
        Holds ``full_set/S01_achievement_low_01.wav`` and so on.

    Returns
    -------
    ArchDataset
        1,085 clips of 6 emotions.

    Raises
    ------
    ValueError
        If a speaker is missing.

    Example
    -------
    >>> read_vivae(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/full_set has no file 'S*_*.wav': ...
    """
    paths = find_files(folder / "full_set", "S*_*.wav")
    fields = [path.stem.split("_") for path in paths]
    labels = sorted({emotion for _, emotion, *_ in fields})
    return ArchDataset(
        "vivae",
        paths,
        multi_hot([[emotion] for _, emotion, *_ in fields], labels),
        labels,
        False,
        cyclic_runs([speaker for speaker, *_ in fields], VIVAE_SPEAKERS),
        [],
    )
