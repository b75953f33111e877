"""ARCH's data sets of music: FMA small, MagnaTagATune, IRMAS, Medley-solos-DB.

Each function takes the folder that holds the files as they are published.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026

ARCH's data sets of sound events: ESC-50, UrbanSound8K, FSD50K, VIVAE.

Each function takes the folder that holds the files as they are published.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026


ARCH's data sets of speech: RAVDESS, AudioMNIST, SLURP, EMOVO.

Each function takes the folder that holds the files as they are published.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026


The twelve data sets by ARCH's names.

Source: ARCH (https://arxiv.org/abs/2405.00934); the numbers of clips are
those of WavJEPA's appendix C (https://arxiv.org/abs/2509.23238).

Authors
 * The speechbrain_wavjepa developers 2026

"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from speechbrain_wavjepa.evaluation.arch_dataset import (
    ArchDataset,
    ArchRun,
    count_classes,
    cyclic_runs,
    fold_runs,
    given_run,
    multi_hot,
    one_hot,
    split_off,
)
from speechbrain_wavjepa.utils.files import path_inside
from speechbrain_wavjepa.utils.tables import (
    find_files,
    parse_json,
    read_rows,
    read_table,
    read_text,
)

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


RAVDESS_LABELS = (
    "neutral calm happy sad angry fearful disgust surprised".split()
)
RAVDESS_EMOTIONS = [f"{number:02d}" for number in range(1, 9)]
EMOVO_SPEAKERS = ["f1", "f2", "f3", "m1", "m2", "m3"]
EMOVO_LABELS = "dis gio neu pau rab sor tri".split()
SLURP_LISTS = {
    "train": "train.jsonl",
    "valid": "devel.jsonl",
    "test": "test.jsonl",
}
# The speakers of each fold of AudioMNIST.
AUDIO_MNIST_FOLDS = [
    [12, 47, 59, 15, 27, 41, 4, 11, 21, 31, 44, 50],
    [26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51],
    [28, 56, 7, 19, 35, 1, 6, 16, 23, 34, 46, 53],
    [36, 57, 9, 24, 37, 2, 8, 17, 29, 39, 48, 54],
    [43, 58, 14, 25, 38, 3, 10, 20, 30, 40, 49, 55],
]
AUDIO_MNIST_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>\d+)_\d+\.wav")
OUR_SPLIT = (
    "The split is drawn from sorted files: ARCH's draw depends on the machine."
)


def read_ravdess(folder: Path) -> ArchDataset:
    """Read RAVDESS: acted emotions in speech.

    Arguments
    ---------
    folder : Path
        Holds the files, such as ``03-01-05-01-02-01-12.wav``, at any depth;
        their third field is the emotion.

    Returns
    -------
    ArchDataset
        1,440 clips of 8 classes.

    Raises
    ------
    ValueError
        If a file has another name, or a name is there twice.

    Example
    -------
    >>> read_ravdess(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere has no file '**/*.wav': ...
    """
    paths = find_files(folder, "**/*.wav")
    seen: dict[str, Path] = {}
    emotions = []
    for path in paths:
        if seen.setdefault(path.name, path) != path:
            raise ValueError(
                f"{path} and {seen[path.name]} are the same recording: with "
                "both, what is tested would be trained on. Remove one copy."
            )
        fields = path.stem.split("-")
        if len(fields) != 7 or fields[:2] != ["03", "01"]:
            raise ValueError(
                f"{path} is not of RAVDESS's speech, with names such as "
                "03-01-05-01-02-01-12.wav: songs and videos begin with other "
                "numbers and belong elsewhere."
            )
        emotions.append(RAVDESS_EMOTIONS.index(fields[2]))
    pool, test = split_off(range(len(paths)), 0.2)
    train, valid = split_off(pool, 0.2)
    return ArchDataset(
        "ravdess",
        paths,
        one_hot(emotions, len(RAVDESS_LABELS)),
        RAVDESS_LABELS,
        False,
        [ArchRun("test", train, valid, test)],
        [OUR_SPLIT],
    )


def read_audio_mnist(folder: Path) -> ArchDataset:
    """Read AudioMNIST: spoken digits in five folds of twelve speakers.

    Arguments
    ---------
    folder : Path
        Holds ``data/01/0_01_0.wav`` and so on.

    Returns
    -------
    ArchDataset
        30,000 clips of 10 classes.

    Raises
    ------
    ValueError
        If a speaker is none of the 60, or a fold has no speaker.

    Example
    -------
    >>> read_audio_mnist(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/data has no file '*/*_*_*.wav': ...
    """
    fold_of = {
        speaker: fold
        for fold, speakers in enumerate(AUDIO_MNIST_FOLDS)
        for speaker in speakers
    }
    paths = find_files(folder / "data", "*/*_*_*.wav")
    digits, folds = [], []
    for path in paths:
        match = AUDIO_MNIST_NAME.fullmatch(path.name)
        if not match or int(match["speaker"]) not in fold_of:
            raise ValueError(
                f"{path} is no digit of one of the 60 speakers: its name "
                "should be as 0_01_0.wav."
            )
        digits.append(int(match["digit"]))
        folds.append(fold_of[int(match["speaker"])])
    return ArchDataset(
        "audio_mnist",
        paths,
        one_hot(digits, 10),
        list("0123456789"),
        False,
        cyclic_runs(folds, range(len(AUDIO_MNIST_FOLDS))),
        [],
    )


def read_slurp(folder: Path) -> ArchDataset:
    """Read SLURP: what a spoken command intends.

    Every recording of a sentence is a clip.

    Arguments
    ---------
    folder : Path
        Holds ``train.jsonl``, ``devel.jsonl``, ``test.jsonl`` and
        ``slurp_real/``.

    Returns
    -------
    ArchDataset
        72,396 clips of 77 classes.

    Raises
    ------
    ValueError
        If a list is missing.

    Example
    -------
    >>> read_slurp(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/train.jsonl is missing: ...
    """
    paths, intents, splits = [], [], []
    for split, name in SLURP_LISTS.items():
        lines = read_text(folder / name).split("\n")
        for line in filter(str.strip, lines):
            sentence = parse_json(line, folder / name)
            for recording in sentence["recordings"]:
                paths.append(
                    path_inside(folder / "slurp_real", recording["file"])
                )
                intents.append([sentence["intent"]])
                splits.append(split)
    labels = sorted({intent for (intent,) in intents})
    return ArchDataset(
        "slurp",
        paths,
        multi_hot(intents, labels),
        labels,
        False,
        [given_run(splits)],
        [],
    )


def read_emovo(folder: Path) -> ArchDataset:
    """Read EMOVO: emotions acted by six Italian speakers.

    Arguments
    ---------
    folder : Path
        Holds ``EMOVO/f1/dis-f1-b1.wav`` or ``f1/dis-f1-b1.wav`` and so on.

    Returns
    -------
    ArchDataset
        588 clips of 7 classes.

    Raises
    ------
    ValueError
        If a speaker is missing or a file has another name.

    Example
    -------
    >>> read_emovo(Path("nowhere"))
    Traceback (most recent call last):
    ...
    ValueError: nowhere/f1 has no file '*.wav': ...
    """
    paths, speakers = [], []
    inside = folder / "EMOVO"
    for speaker in EMOVO_SPEAKERS:
        place = inside if inside.is_dir() else folder
        some = find_files(place / speaker, "*.wav")
        paths += some
        speakers += [speaker] * len(some)
    return ArchDataset(
        "emovo",
        paths,
        multi_hot([[path.stem.split("-")[0]] for path in paths], EMOVO_LABELS),
        EMOVO_LABELS,
        False,
        fold_runs(speakers, 0.1),
        [OUR_SPLIT],
    )


class ArchReader(NamedTuple):
    """How a data set is read, and what is known of it.

    Arguments
    ---------
    read : callable
        From the data set's folder to its clips.
    folder : str
        What the folder is usually called.
    num_clips : int
        How many clips the whole data set has.
    max_seconds : float
        To which length ARCH cuts or pads clips for models that ask for it.

    Example
    -------
    >>> READERS["esc50"].num_clips
    2000
    """

    read: Callable[..., ArchDataset]
    folder: str
    num_clips: int
    max_seconds: float


READERS = {
    "esc50": ArchReader(read_esc50, "ESC-50-master", 2000, 5),
    "us8k": ArchReader(read_us8k, "UrbanSound8K", 8732, 5),
    "fsd50k": ArchReader(read_fsd50k, "FSD50K", 51197, 10),
    "vivae": ArchReader(read_vivae, "VIVAE", 1085, 5),
    "fma_small": ArchReader(read_fma_small, "FMA", 8000, 30),
    "magna_tag_a_tune": ArchReader(
        read_magna_tag_a_tune, "MagnaTagATune", 21108, 30
    ),
    "irmas": ArchReader(read_irmas, "IRMAS", 8278, 5),
    "medleydb": ArchReader(read_medleydb, "Medley-solos-DB", 21571, 3),
    "ravdess": ArchReader(read_ravdess, "RAVDESS", 1440, 5),
    "audio_mnist": ArchReader(read_audio_mnist, "AudioMNIST", 30000, 5),
    "slurp": ArchReader(read_slurp, "slurp", 72396, 10),
    "emovo": ArchReader(read_emovo, "EMOVO", 588, 5),
}


def read_dataset(
    name: str, folder: Union[str, Path], **options: Any
) -> ArchDataset:
    """Read one of the data sets.

    Arguments
    ---------
    name : str
        ARCH's name of it.
    folder : str or Path
        Where its files lie as they are published.
    **options : Any
        Of its reader, such as ``parts`` of IRMAS.

    Returns
    -------
    ArchDataset
        Its clips, labels and runs.

    Raises
    ------
    ValueError
        If there is no such data set, or it is not whole.

    Example
    -------
    >>> read_dataset("esc-50", "nowhere")
    Traceback (most recent call last):
    ...
    ValueError: There is no data set 'esc-50' in ARCH, there are [...]...
    """
    if name not in READERS:
        raise ValueError(
            f"There is no data set {name!r} in ARCH, there are {list(READERS)}."
        )
    try:
        dataset = READERS[name].read(Path(folder), **options)
    except (IndexError, KeyError, OSError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(folder) in str(error):
            raise
        raise ValueError(
            f"{name} in {folder} is not as it is published: "
            f"{type(error).__name__}: {error}"
        ) from error
    found, whole = len(dataset.paths), READERS[name].num_clips
    if found != whole:
        note = f"{found} clips; the whole data set has {whole}."
        dataset = dataset._replace(notes=[*dataset.notes, note])
    return dataset
