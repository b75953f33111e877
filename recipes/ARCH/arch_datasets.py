"""The readers of ARCH's twelve data sets: sound events, music, speech.

Each takes the folder that holds the files as they are published and gives
clips, labels and runs; ``READERS`` lists them by ARCH's names.

Source: ARCH (https://arxiv.org/abs/2405.00934); the numbers of clips are
those of WavJEPA's appendix C (https://arxiv.org/abs/2509.23238).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from speechbrain_wavjepa.evaluation import ArchDataset
from speechbrain_wavjepa.evaluation.arch_dataset import (
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
FMA_COLUMNS = [("set", "subset"), ("track", "genre_top")]
FMA_MAX_BYTES = 2**29  # of its table, which has 2**28
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
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RAVDESS_LABELS = (
    "neutral calm happy sad angry fearful disgust surprised".split()
)
RAVDESS_EMOTIONS = [f"{number:02d}" for number in range(1, 9)]
# The speakers of each fold of AudioMNIST.
AUDIO_MNIST_FOLDS = [
    [12, 47, 59, 15, 27, 41, 4, 11, 21, 31, 44, 50],
    [26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51],
    [28, 56, 7, 19, 35, 1, 6, 16, 23, 34, 46, 53],
    [36, 57, 9, 24, 37, 2, 8, 17, 29, 39, 48, 54],
    [43, 58, 14, 25, 38, 3, 10, 20, 30, 40, 49, 55],
]
AUDIO_MNIST_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>\d+)_\d+\.wav")
SLURP_LISTS = {
    "train": "train.jsonl",
    "valid": "devel.jsonl",
    "test": "test.jsonl",
}
EMOVO_SPEAKERS = ["f1", "f2", "f3", "m1", "m2", "m3"]
EMOVO_LABELS = "dis gio neu pau rab sor tri".split()
OUR_SPLIT = (
    "The split is drawn from sorted files: ARCH's draw depends on the machine."
)


def read_esc50(folder: Path) -> ArchDataset:
    """Read ESC-50, five folds of environmental sounds: meta/ and audio/."""
    columns = ["filename", "fold", "target", "category"]
    rows = read_table(folder / "meta" / "esc50.csv", columns)
    paths = [path_inside(folder / "audio", row["filename"]) for row in rows]
    return _make_folds("esc50", rows, paths, "target", "category")


def read_us8k(folder: Path) -> ArchDataset:
    """Read UrbanSound8K, ten folds of sounds of a city: metadata/, audio/."""
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
    runs = fold_runs([row["fold"] for row in rows], VALID_SHARE)
    targets = one_hot(classes, len(labels))
    return ArchDataset(name, paths, targets, labels, False, runs)


def read_fsd50k(folder: Path) -> ArchDataset:
    """Read FSD50K, clips of Freesound with any of 200 labels."""
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
    targets, runs = multi_hot(found, labels), [given_run(splits)]
    return ArchDataset("fsd50k", paths, targets, labels, True, runs)


def read_vivae(folder: Path) -> ArchDataset:
    """Read VIVAE, non-verbal cries: full_set/S01_achievement_low_01.wav."""
    paths = find_files(folder / "full_set", "S*_*.wav")
    fields = [path.stem.split("_") for path in paths]
    labels = sorted({emotion for _, emotion, *_ in fields})
    targets = multi_hot([[emotion] for _, emotion, *_ in fields], labels)
    runs = cyclic_runs([speaker for speaker, *_ in fields], VIVAE_SPEAKERS)
    return ArchDataset("vivae", paths, targets, labels, False, runs)


def read_fma_small(folder: Path) -> ArchDataset:
    """Read the small set of the Free Music Archive, eight genres.

    The classes are the 16 genres of the whole archive, as in ARCH.
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
        (f"{int(row[0]):06d}", row[subset], row[genre])
        for row in rows
        if row[0].isdigit() and row[genre]
    ]
    labels = sorted({genre for _, _, genre in tracks})
    wanted = sum(subset == "small" for _, subset, _ in tracks)
    paths, classes = [], []
    for track, _, genre in tracks:
        path = folder / "fma_small" / track[:3] / f"{track}.mp3"
        if path.is_file():
            paths.append(path)
            classes.append(labels.index(genre))
    if not paths:
        raise ValueError(
            f"{folder / 'fma_small'} has none of the clips of {table}, such "
            "as 000/000002.mp3: is the data set unpacked there?"
        )
    train, rest = split_off(range(len(paths)), 0.2)
    test, valid = split_off(rest, 0.5)
    return ArchDataset(
        "fma_small",
        paths,
        one_hot(classes, len(labels)),
        labels,
        False,
        [ArchRun("test", train, valid, test)],
        [f"{len(paths)} of the table's {wanted} small clips are there."],
    )


def read_magna_tag_a_tune(folder: Path) -> ArchDataset:
    """Read MagnaTagATune, music with any of 50 tags; clips without: left out.

    The lists of the split, such as train_gt_mtt.tsv, lie beside the table.
    """
    table = folder / "annotations_final.csv"
    rows = read_table(table, ["clip_id", "mp3_path", *MTT_TAGS], "\t")
    part = {}
    for split, name in MTT_LISTS.items():
        lines = read_text(folder / name).splitlines()
        part |= {line.split("\t")[0]: split for line in lines if line.strip()}
    paths, found, splits = [], [], []
    for row in rows:
        tags = [tag for tag in MTT_TAGS if row[tag] == "1"]
        if tags and row["clip_id"] in part:
            paths.append(path_inside(folder, row["mp3_path"]))
            found.append(tags)
            splits.append(part[row["clip_id"]])
    targets, runs = multi_hot(found, MTT_TAGS), [given_run(splits)]
    return ArchDataset("magna_tag_a_tune", paths, targets, MTT_TAGS, True, runs)


def read_irmas(folder: Path, parts: Sequence[int] = (1, 3)) -> ArchDataset:
    """Read IRMAS, instruments in music, tested on parts of its test set.

    The published figures were probably computed without part 2, which ARCH's
    pattern misses.
    """
    if (
        not isinstance(parts, (list, tuple))
        or not parts
        or not set(parts) <= {1, 2, 3}
    ):
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
        outer = folder / f"IRMAS-TestingData-Part{part}"
        choices = [outer / inner.format(part=part) for inner in IRMAS_INNER]
        inner = next(filter(Path.is_dir, choices), choices[0])
        for path in find_files(inner, "*.wav"):
            paths.append(path)
            found.append(read_text(path.with_suffix(".txt")).split())
    test = list(range(len(train) + len(valid), len(paths)))
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


def read_medleydb(folder: Path) -> ArchDataset:
    """Read Medley-solos-DB, eight instruments, each by itself."""
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
    labels = [f"instrument {n}" for n in range(count_classes(classes))]
    return ArchDataset(
        "medleydb",
        [files[row["uuid4"]] for row in rows],
        one_hot(classes, len(labels)),
        labels,
        False,
        [given_run([MEDLEY_SPLITS[row["subset"]] for row in rows])],
    )


def read_ravdess(folder: Path) -> ArchDataset:
    """Read RAVDESS, acted emotions in speech, files at any depth.

    The third field of 03-01-05-01-02-01-12.wav is the emotion.
    """
    paths = find_files(folder, "**/*.wav")
    seen: dict[str, Path] = {}
    emotions = []
    for path in paths:
        if seen.setdefault(path.name, path) != path:
            raise ValueError(
                f"{path} and {seen[path.name]} are the same recording, which "
                "would be trained on and tested: remove one copy."
            )
        fields = path.stem.split("-")
        if len(fields) != 7 or fields[:2] != ["03", "01"]:
            raise ValueError(
                f"{path} is not of RAVDESS's speech, with names such as "
                "03-01-05-01-02-01-12.wav: move songs and videos elsewhere."
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
    """Read AudioMNIST, spoken digits in five folds of twelve speakers."""
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
    targets, labels = one_hot(digits, 10), list("0123456789")
    runs = cyclic_runs(folds, range(len(AUDIO_MNIST_FOLDS)))
    return ArchDataset("audio_mnist", paths, targets, labels, False, runs)


def read_slurp(folder: Path) -> ArchDataset:
    """Read SLURP, what a spoken command intends; each recording is a clip."""
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
    targets, runs = multi_hot(intents, labels), [given_run(splits)]
    return ArchDataset("slurp", paths, targets, labels, False, runs)


def read_emovo(folder: Path) -> ArchDataset:
    """Read EMOVO, emotions acted in Italian: f1/dis-f1-b1.wav, or in EMOVO/."""
    paths, speakers = [], []
    inside = folder / "EMOVO"
    for speaker in EMOVO_SPEAKERS:
        place = inside if inside.is_dir() else folder
        some = find_files(place / speaker, "*.wav")
        paths += some
        speakers += [speaker] * len(some)
    emotions = [[path.stem.split("-")[0]] for path in paths]
    targets, runs = multi_hot(emotions, EMOVO_LABELS), fold_runs(speakers, 0.1)
    return ArchDataset(
        "emovo", paths, targets, EMOVO_LABELS, False, runs, [OUR_SPLIT]
    )


class ArchReader(NamedTuple):
    """How a data set is read, and what is known of it."""

    read: Callable[..., ArchDataset]
    folder: str  # its usual name
    num_clips: int  # of the whole data set
    max_seconds: float  # to which ARCH cuts or pads, for models that ask for it


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
    """Read a data set by ARCH's name; options are its reader's."""
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
