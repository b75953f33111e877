"""ARCH's data sets of speech: RAVDESS, AudioMNIST, SLURP, EMOVO.

Each function takes the folder that holds the files as they are published.

Source: ARCH (https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import re
from pathlib import Path

from speechbrain_wavjepa.evaluation.arch_dataset import (
    ArchDataset,
    ArchRun,
    cyclic_runs,
    fold_runs,
    given_run,
    multi_hot,
    one_hot,
    split_off,
)
from speechbrain_wavjepa.evaluation.tables import (
    find_files,
    parse_json,
    read_text,
)
from speechbrain_wavjepa.utils.files import path_inside

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
