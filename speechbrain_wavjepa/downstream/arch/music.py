"""ARCH's data sets of music: FMA small, MagnaTagATune, IRMAS, Medley-solos-DB.

Each function takes the folder that holds the files as they are published.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import re
from collections.abc import Sequence
from pathlib import Path

from speechbrain_wavjepa.evaluation.arch_dataset import (
    ArchDataset,
    ArchRun,
    count_classes,
    given_run,
    multi_hot,
    one_hot,
    split_off,
)
from speechbrain_wavjepa.evaluation.tables import (
    find_files,
    read_rows,
    read_table,
    read_text,
)
from speechbrain_wavjepa.utils.files import path_inside

# ARCH's tags of MagnaTagATune; near-synonyms are not merged.
MTT_TAGS = (
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,"
    "ambient,beat,violin,vocal,synth,female,indian,opera,male,singing,vocals,"
    "no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,"
    "soft,sitar,solo,man,classic,choir,voice,new age,dance,male voice,"
    "female vocal,beats,harp,cello,no voice,weird,country,metal,female voice,"
    "choral"
).split(",")
MTT_LISTS = {
    "train": "train_gt_mtt.tsv",
    "valid": "val_gt_mtt.tsv",
    "test": "test_gt_mtt.tsv",
}
IRMAS_LABELS = "cel cla flu gac gel org pia sax tru vio voi".split()
# The second part unpacks to either.
IRMAS_INNER = ("Part{part}", "IRTestingData-Part{part}")
MEDLEY_SPLITS = {"training": "train", "validation": "valid", "test": "test"}
FMA_COLUMNS = [("set", "subset"), ("track", "genre_top")]
FMA_MAX_BYTES = 2**29  # of its table, which has 2**28
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_fma_small(folder: Path) -> ArchDataset:
    """Read the small set of the Free Music Archive: eight genres.

    The classes are the 16 genres of the whole archive, as in ARCH; the small
    set has 8 of them.

    Arguments
    ---------
    folder : Path
        Holds ``fma_metadata/tracks.csv`` and ``fma_small/000/000002.mp3`` and
        so on.

    Returns
    -------
    ArchDataset
        8,000 clips.

    Raises
    ------
    ValueError
        If the table or all the clips are missing.

    Example
    -------
    >>> read_fma_small(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/fma_metadata/tracks.csv is missing: ...
    """
    table = folder / "fma_metadata" / "tracks.csv"
    rows = read_rows(table, max_bytes=FMA_MAX_BYTES)
    columns = list(zip(next(rows, []), next(rows, [])))
    if missing := [pair for pair in FMA_COLUMNS if pair not in columns]:
        raise ValueError(
            f"{table} has no column with the two headers {missing[0]}: is it "
            "the table of fma_metadata.zip?"
        )
    subset, genre = (columns.index(pair) for pair in FMA_COLUMNS)
    tracks = [
        (int(row[0]), row[subset], row[genre])
        for row in rows
        if row[0].isdigit() and row[genre]
    ]
    clips = [track for track in tracks if _fma_path(folder, track[0]).is_file()]
    if not clips:
        raise ValueError(
            f"{folder / 'fma_small'} has none of the clips of {table}, such "
            "as 000/000002.mp3: is the data set unpacked there?"
        )
    labels = sorted({genre for _, _, genre in tracks})
    train, rest = split_off(range(len(clips)), 0.2)
    test, valid = split_off(rest, 0.5)
    wanted = sum(subset == "small" for _, subset, _ in tracks)
    return ArchDataset(
        "fma_small",
        [_fma_path(folder, number) for number, _, _ in clips],
        one_hot([labels.index(genre) for _, _, genre in clips], len(labels)),
        labels,
        False,
        [ArchRun("test", train, valid, test)],
        [f"{len(clips)} of the table's {wanted} small clips are there."],
    )


def _fma_path(folder: Path, track: int) -> Path:
    """Tell where a track lies: 000/000002.mp3."""
    name = f"{track:06d}"
    return folder / "fma_small" / name[:3] / f"{name}.mp3"


def read_magna_tag_a_tune(folder: Path) -> ArchDataset:
    """Read MagnaTagATune: music with any of 50 tags.

    Arguments
    ---------
    folder : Path
        Holds ``annotations_final.csv``, the clips at the paths that it names,
        and the lists of the split, such as ``train_gt_mtt.tsv``.

    Returns
    -------
    ArchDataset
        21,108 clips of 50 labels; clips without any of the tags are left out.

    Raises
    ------
    ValueError
        If a table is missing or another one.

    Example
    -------
    >>> read_magna_tag_a_tune(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/annotations_final.csv is missing: ...
    """
    rows = read_table(
        folder / "annotations_final.csv",
        ["clip_id", "mp3_path", *MTT_TAGS],
        delimiter="\t",
    )
    part = {}
    for split, name in MTT_LISTS.items():
        lines = read_text(folder / name).splitlines()
        part |= {line.split("\t")[0]: split for line in lines if line.strip()}
    tags = [[tag for tag in MTT_TAGS if row[tag] == "1"] for row in rows]
    kept = [
        (row, found)
        for row, found in zip(rows, tags)
        if found and row["clip_id"] in part
    ]
    return ArchDataset(
        "magna_tag_a_tune",
        [path_inside(folder, row["mp3_path"]) for row, _ in kept],
        multi_hot([found for _, found in kept], MTT_TAGS),
        MTT_TAGS,
        True,
        [given_run([part[row["clip_id"]] for row, _ in kept])],
        [],
    )


def read_irmas(folder: Path, parts: Sequence[int] = (1, 3)) -> ArchDataset:
    """Read IRMAS: the instruments that are heard in music.

    Arguments
    ---------
    folder : Path
        Holds ``IRMAS-TrainingData/cel/`` and so on, and
        ``IRMAS-TestingData-Part1/Part1/`` and so on.
    parts : sequence of int
        Parts of the test set. The published figures were probably computed
        without part 2, which ARCH's pattern misses.

    Returns
    -------
    ArchDataset
        6,705 training and, with parts 1 and 3, 1,573 test clips of 11 labels.

    Raises
    ------
    ValueError
        If an instrument, a part or the text beside a clip is missing.

    Example
    -------
    >>> read_irmas(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/IRMAS-TrainingData/cel has no file '*.wav': ...
    """
    if not isinstance(parts, (list, tuple)) or not {1, 2, 3} >= set(parts):
        raise ValueError(
            f"The parts of the test set of {folder} are 1 to 3, got "
            f"irmas_parts={parts}: use [1, 3] or [1, 2, 3]."
        )
    paths, found = [], []
    for label in IRMAS_LABELS:
        some = find_files(folder / "IRMAS-TrainingData" / label, "*.wav")
        paths += some
        found += [[label]] * len(some)
    train, valid = split_off(range(len(paths)), 0.2)
    for part in sorted(set(parts)):
        for path in find_files(_irmas_part(folder, part), "*.wav"):
            paths.append(path)
            found.append(read_text(path.with_suffix(".txt")).split())
    test = list(range(len(train) + len(valid), len(paths)))
    if not test:
        raise ValueError(
            f"parts={list(parts)} leaves no test clip: use [1, 3]."
        )
    listed = ", ".join(map(str, parts))
    return ArchDataset(
        "irmas",
        paths,
        multi_hot(found, IRMAS_LABELS),
        IRMAS_LABELS,
        True,
        [ArchRun("test", train, valid, test)],
        [
            f"Tested on {len(test)} clips of part(s) {listed}.",
            "Validation clips are drawn from sorted files: ARCH's draw "
            "depends on the machine.",
        ],
    )


def _irmas_part(folder: Path, part: int) -> Path:
    """Find the folder of a part of the test set."""
    outer = folder / f"IRMAS-TestingData-Part{part}"
    choices = [outer / inner.format(part=part) for inner in IRMAS_INNER]
    return next((path for path in choices if path.is_dir()), choices[0])


def read_medleydb(folder: Path) -> ArchDataset:
    """Read Medley-solos-DB: eight instruments, each by itself.

    Arguments
    ---------
    folder : Path
        Holds ``Medley-solos-DB_metadata.csv`` and ``audio/``.

    Returns
    -------
    ArchDataset
        21,571 clips of 8 classes.

    Raises
    ------
    ValueError
        If the table or a clip's file is missing.

    Example
    -------
    >>> read_medleydb(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/Medley-solos-DB_metadata.csv is missing: ...
    """
    table = folder / "Medley-solos-DB_metadata.csv"
    rows = read_table(table, ["subset", "instrument_id", "uuid4"])
    audio = folder / "audio"
    files = {
        match.group(): path
        # the archive itself has no such folder
        for path in find_files(audio if audio.is_dir() else folder, "*.wav")
        if (match := UUID.search(path.name))
    }
    if missing := [row["uuid4"] for row in rows if row["uuid4"] not in files]:
        raise ValueError(
            f"{folder} has no file of {missing[0]} and of "
            f"{len(missing) - 1} others of {table.name}."
        )
    classes = [int(row["instrument_id"]) for row in rows]
    labels = [
        f"instrument {number}" for number in range(count_classes(classes))
    ]
    return ArchDataset(
        "medleydb",
        [files[row["uuid4"]] for row in rows],
        one_hot(classes, len(labels)),
        labels,
        False,
        [given_run([MEDLEY_SPLITS[row["subset"]] for row in rows])],
        [],
    )
