"""One embedding for each clip of a data set, computed once and kept.

Source: ARCH (https://arxiv.org/abs/2405.00934): clips are resampled channel
by channel, then channels are averaged.

Shapes: n clips, T samples, C channels, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

Embeddings of a task, computed once and kept on disk.

The order of the clips is that of the HEAR kit: as in the labels' json, then
shuffled once with a fixed seed that runs on from split to split. It is the
order in which probes are trained.

Shapes: n clips, T samples, C channels, N tokens of a clip, R rows, D dim.

Authors
 * The speechbrain_wavjepa developers 2026

Clips of a task for a loader, and their targets: for fine-tuning.

Shapes: B clips, T samples, C channels, N tokens of a clip, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import read_clip
from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset, name_files
from speechbrain_wavjepa.evaluation.hear_task import HearTask
from speechbrain_wavjepa.utils.files import atomic_folder, fingerprint, hold

SECONDS_AT_ONCE = 80  # of sound in a batch, where clips have one length
# From clips [n, T, C] to embeddings [n, D], or to [n, N, D] and times [n, N]
# in milliseconds.
Embedder = Callable[[Tensor], Union[Tensor, tuple[Tensor, Tensor]]]


class SplitEmbeddings(NamedTuple):
    """The embeddings of a split: a row for each clip, or for each token.

    Arguments
    ---------
    names : list of str
        The clips in their order.
    rows : [R, D] np.ndarray
        The embeddings, in memory or mapped from the disk.
    num_rows : list of int
        Rows of each clip.
    times : [R] np.ndarray, optional
        Time of each row in milliseconds; none for scenes.

    Example
    -------
    >>> split = SplitEmbeddings(["a.wav"], np.zeros((1, 16)), [1])
    >>> split.rows.shape
    (1, 16)
    """

    names: list[str]
    rows: np.ndarray
    num_rows: list[int]
    times: Optional[np.ndarray] = None

    def read(self) -> Tensor:
        """Read all rows [R, D] into memory, in float32."""
        return torch.from_numpy(np.array(self.rows)).float()


def embed_task(
    task: HearTask,
    embedder: Embedder,
    key: str,
    cache_folder: Union[str, Path],
) -> dict[str, SplitEmbeddings]:
    """Embed all clips of a task, or read what is there.

    Arguments
    ---------
    task : HearTask
        The task.
    embedder : callable
        What embeds clips [n, T, C].
    key : str
        Tells models apart. Embeddings of another key, or of a task whose
        labels or clips have changed, are never read.
    cache_folder : str or Path
        Where to keep them.

    Returns
    -------
    dict[str, SplitEmbeddings]
        Of each split, mapped from the disk.

    Raises
    ------
    ValueError
        If a clip cannot be read, an embedding is not finite, or another
        process embeds the same.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> splits = embed_task(
    ...     task, lambda clips: clips[:, :3, 0], "cut", getfixture("tmp_path")
    ... )
    >>> splits["test"].rows.shape
    (6, 3)
    """
    place = Path(cache_folder) / task.folder.resolve().name
    folder = place / fingerprint(key, task.fingerprints())
    order = random.Random(0)
    splits = {}
    for split in task.splits:
        names = list(task.clips[split])
        order.shuffle(names)
        if not (folder / split).exists():
            with hold(folder), atomic_folder(folder / split) as aside:
                _embed_split(task, split, names, embedder, aside)
        splits[split] = _read_split(folder / split, names)
    return splits


def _embed_split(
    task: HearTask,
    split: str,
    names: Sequence[str],
    embedder: Embedder,
    folder: Path,
) -> None:
    """Embed the clips of a split and write them."""
    rows, times, num_rows = [], [], []
    progress = tqdm(
        total=len(names), desc=f"embed {task.name} {split}", unit=" clips"
    )
    with progress, torch.no_grad():
        for batch in _batches(task, split, names):
            output = embedder(batch)
            if task.embedding_type == "event":
                embeddings, milliseconds = output
                times.append(milliseconds.flatten().cpu())
                num_rows += [embeddings.shape[1]] * len(batch)
                rows.append(embeddings.flatten(0, 1).float().cpu())
            else:
                num_rows += [1] * len(batch)
                rows.append(output.float().cpu())
            if not bool(torch.isfinite(rows[-1]).all()):
                first, last = progress.n, progress.n + len(batch) - 1
                raise ValueError(
                    f"An embedding of {split}/{names[first]} to {names[last]} "
                    "holds NaN or Inf: check the clips and the model's weights."
                )
            progress.update(len(batch))
    np.save(folder / "rows.npy", torch.cat(rows).numpy())
    if times:
        np.save(folder / "times.npy", torch.cat(times).double().numpy())
    text = json.dumps({"names": list(names), "num_rows": num_rows})
    (folder / "clips.json").write_text(text, encoding="utf-8")


def _batches(
    task: HearTask, split: str, names: Sequence[str]
) -> Iterator[Tensor]:
    """Read clips [n, T, C]: neighbours of one shape, up to some seconds."""
    batch: list[Tensor] = []
    for name in names:
        clip = task.read_clip(split, name)
        at_once = SECONDS_AT_ONCE * task.sample_rate // len(clip)
        if batch and (clip.shape != batch[0].shape or len(batch) >= at_once):
            yield torch.stack(batch)
            batch = []
        batch.append(clip)
    yield torch.stack(batch)


def _read_split(folder: Path, names: Sequence[str]) -> SplitEmbeddings:
    """Map the embeddings of a split into memory."""
    note = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
    times = folder / "times.npy"
    return SplitEmbeddings(
        list(names),
        np.load(folder / "rows.npy", mmap_mode="r"),
        note["num_rows"],
        np.load(times) if times.exists() else None,
    )


def make_targets(
    task: HearTask, split: str, embeddings: SplitEmbeddings
) -> np.ndarray:
    """Make the targets of all rows.

    Arguments
    ---------
    task : HearTask
        The task.
    split : str
        The split.
    embeddings : SplitEmbeddings
        Its embeddings.

    Returns
    -------
    [R, L] np.ndarray of float32
        1 for the labels of a clip, or for the labels that are on at the time
        of a token: from the start of an event, up to its end.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> names = list(task.clips["test"])
    >>> split = SplitEmbeddings(names, np.zeros((6, 1)), [1] * 6)
    >>> make_targets(task, "test", split)[0]
    array([0., 1.], dtype=float32)
    """
    index = {label: number for number, label in enumerate(task.labels)}
    targets = np.zeros((len(embeddings.rows), len(index)), np.float32)
    start = 0
    for name, count in zip(embeddings.names, embeddings.num_rows):
        found = task.clips[split][name]
        if embeddings.times is None:
            targets[start, [index[label] for label in found]] = 1
        else:
            times = embeddings.times[start : start + count]
            for event in found:
                # the kit's tolerance at the end of an event
                on = (event.start <= times) & (times < event.end + 1e-4)
                targets[start : start + count][on, index[event.label]] = 1
        start += count
    return targets


Place = tuple[str, str]  # a clip's split and name


class LabelledClips(torch.utils.data.Dataset):
    """Clips of some splits, read from the disk one by one.

    Arguments
    ---------
    task : HearTask
        The task.
    splits : sequence of str
        The splits, one after the other.

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> clip, place = LabelledClips(task, ["valid", "test"])[6]
    >>> clip.shape, place
    (torch.Size([1600, 1]), ('test', '0.wav'))
    """

    def __init__(self, task: HearTask, splits: Sequence[str]):
        self.task = task
        self.places = [
            (split, name) for split in splits for name in task.clips[split]
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Place]:
        return self.task.read_clip(*self.places[index]), self.places[index]


def collate_clips(
    examples: Sequence[tuple[Tensor, Place]],
) -> tuple[Tensor, Tensor, list[Place]]:
    """Pad clips to one length.

    Arguments
    ---------
    examples : sequence of (clip [T, C], place)
        From ``LabelledClips``.

    Returns
    -------
    wavs : [B, T, C]
        The clips, with zeros behind.
    wav_lens : [B]
        Their lengths relative to T.
    places : list of (split, name)
        Where each of them is from.

    Raises
    ------
    ValueError
        If some have other numbers of channels than others.

    Example
    -------
    >>> clips = [torch.ones(4, 1), torch.ones(8, 1)]
    >>> places = [("test", "0.wav"), ("test", "1.wav")]
    >>> wavs, wav_lens, _ = collate_clips(list(zip(clips, places)))
    >>> wavs.shape, wav_lens
    (torch.Size([2, 8, 1]), tensor([0.5000, 1.0000]))
    """
    clips, places = zip(*examples)
    if len(channels := {clip.shape[1] for clip in clips}) > 1:
        raise ValueError(
            f"Clips with {sorted(channels)} channels are in one batch, such as "
            f"{places[0]}: give all clips of the task the same channels."
        )
    wavs = pad_sequence(list(clips), batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips])
    return wavs, lengths / wavs.shape[1], list(places)


def batch_targets(
    task: HearTask,
    places: Sequence[Place],
    times: Optional[np.ndarray] = None,
) -> Tensor:
    """Make the targets of some clips, as those of the HEAR kit's probes.

    Arguments
    ---------
    task : HearTask
        The task.
    places : sequence of (split, name)
        The clips.
    times : [N] np.ndarray, optional
        Times of tokens in milliseconds; none for scenes.

    Returns
    -------
    [B, N, L]
        1 where a label is on; of scenes [B, 1, L].

    Example
    -------
    >>> task = HearTask(getfixture("task_folder"))
    >>> batch_targets(task, [("test", "0.wav"), ("test", "1.wav")])
    tensor([[[0., 1.]],
    <BLANKLINE>
            [[1., 0.]]])
    """
    count = 1 if times is None else len(times)
    rows = np.empty((count, 0))
    targets = [
        make_targets(task, split, SplitEmbeddings([name], rows, [count], times))
        for split, name in places
    ]
    return torch.from_numpy(np.stack(targets))


logger = logging.getLogger(__name__)


class ClipEmbeddings(NamedTuple):
    """The embeddings of a data set.

    Arguments
    ---------
    rows : [n, D] np.ndarray of float32
        Of each clip, mapped from the disk; zeros where it could not be read.
    unreadable : dict[int, str]
        Why clips could not be read, by their number.

    Example
    -------
    >>> ClipEmbeddings(np.zeros((2, 16)), {1: "b.wav is empty"}).rows.shape
    (2, 16)
    """

    rows: np.ndarray
    unreadable: dict[int, str]


class _MonoClips(torch.utils.data.Dataset):
    """Clips [T], or why one cannot be read."""

    def __init__(self, paths: Sequence[Path], sample_rate: int):
        self.paths = paths
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Union[Tensor, str]:
        try:
            return read_mono(self.paths[index], self.sample_rate)
        except ValueError as error:
            return str(error)


def read_mono(path: Union[str, Path], sample_rate: int) -> Tensor:
    """Read a clip as ARCH does.

    Arguments
    ---------
    path : str or Path
        An audio file.
    sample_rate : int
        The wanted rate in Hz.

    Returns
    -------
    [T]
        The mean of its channels, each resampled.

    Raises
    ------
    ValueError
        If the file is missing, broken, empty or holds NaN.

    Example
    -------
    >>> read_mono("nowhere.wav", 16000)
    Traceback (most recent call last):
    ...
    ValueError: nowhere.wav is not there.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} is not there.")
    if Path(path).stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if info.frames == 0:
        raise ValueError(f"{path} is empty.")
    channels = read_clip(Path(path), info.samplerate).T.contiguous()
    if len(channels) > 2:
        logger.warning(f"{path}: the mean of {len(channels)} channels is taken")
    if info.samplerate != sample_rate:
        channels = _resampler(info.samplerate, sample_rate)(channels)
    return channels.mean(dim=0)


@functools.cache
def _resampler(rate: int, new_rate: int) -> torchaudio.transforms.Resample:
    """Design the filter that ARCH uses, torchaudio's default."""
    return torchaudio.transforms.Resample(rate, new_rate)


def embed_dataset(
    dataset: ArchDataset,
    embed: Callable[[Tensor], Tensor],
    sample_rate: int,
    key: str,
    cache_folder: Union[str, Path],
    max_bad_fraction: float = 0.05,
    num_workers: int = 0,
) -> ClipEmbeddings:
    """Embed all clips of a data set one by one, or read what is there.

    Arguments
    ---------
    dataset : ArchDataset
        The data set.
    embed : callable
        From a clip [1, T] to its embedding [1, D].
    sample_rate : int
        The rate in Hz that it wants.
    key : str
        Tells models, and by ``fingerprint_dataset`` data sets, apart:
        embeddings of another key are never read.
    cache_folder : str or Path
        Where to keep them.
    max_bad_fraction : float
        Part of the clips that may be unreadable.
    num_workers : int
        Processes that read files.

    Returns
    -------
    ClipEmbeddings
        In the order of the data set's clips.

    Raises
    ------
    ValueError
        If too many clips cannot be read, an embedding is not finite, the
        folder holds embeddings of other clips, or another process embeds
        the same.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.full(8, 0.5), 16000)
    >>> pets = ArchDataset("pets", [path], np.ones((1, 1)), ["a"], 0, [], [])
    >>> embed_dataset(
    ...     pets, lambda clip: clip[:, :2], 16000, "cut", path.parent
    ... ).rows.tolist()
    [[0.5, 0.5]]
    """
    folder = Path(cache_folder) / dataset.name / key
    names = name_files(dataset)
    if not folder.exists():
        with hold(folder.parent), atomic_folder(folder) as aside:
            rows, unreadable = _embed_clips(
                dataset,
                names,
                embed,
                sample_rate,
                max_bad_fraction,
                num_workers,
            )
            np.save(aside / "rows.npy", rows)
            about = {"names": names, "unreadable": unreadable}
            (aside / "clips.json").write_text(json.dumps(about))
    about = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
    if about["names"] != names:
        raise ValueError(
            f"{folder} holds embeddings of other clips than {dataset.name} "
            "has now: delete it."
        )
    unreadable = {int(n): why for n, why in about["unreadable"].items()}
    _check_unreadable(unreadable, len(names), max_bad_fraction)
    if unreadable:
        logger.warning(
            f"{dataset.name}: {len(unreadable)} clips cannot be read. The "
            f"first: {next(iter(unreadable.values()))}"
        )
    return ClipEmbeddings(
        np.load(folder / "rows.npy", mmap_mode="r"), unreadable
    )


def _embed_clips(
    dataset: ArchDataset,
    names: Sequence[str],
    embed: Callable[[Tensor], Tensor],
    sample_rate: int,
    max_bad_fraction: float,
    num_workers: int,
) -> tuple[np.ndarray, dict[int, str]]:
    """Embed clips: [n, D], and why some could not be."""
    absent = [path for path in dataset.paths if not path.is_file()]
    if len(absent) > max_bad_fraction * len(names):
        raise ValueError(
            f"{len(absent)} of {len(names)} clips of {dataset.name} are not "
            f"there, more than max_bad_fraction={max_bad_fraction} of them, "
            f"such as {absent[0]}: is the data set unpacked?"
        )
    clips = torch.utils.data.DataLoader(
        _MonoClips(dataset.paths, sample_rate),
        batch_size=None,
        num_workers=num_workers,
    )
    rows, unreadable = [], {}
    progress = tqdm(clips, desc=f"embed {dataset.name}", unit=" clips")
    for number, clip in enumerate(progress):
        row = None
        if not isinstance(clip, str):
            clip, row = _embed_clip(embed, clip, names[number])
        if row is None:
            unreadable[number] = clip
            _check_unreadable(unreadable, len(names), max_bad_fraction)
        rows.append(row)
    nothing = np.zeros_like(next(row for row in rows if row is not None))
    filled = [nothing if row is None else row for row in rows]
    return np.stack(filled), unreadable


def _embed_clip(
    embed: Callable[[Tensor], Tensor], clip: Tensor, name: str
) -> tuple[str, Optional[np.ndarray]]:
    """Embed a clip and check its embedding; or say why it has none."""
    try:
        with torch.no_grad():
            row = embed(clip[None])[0].float().numpy(force=True)
    except ValueError as error:  # such as a clip shorter than a token
        return f"{name} cannot be embedded: {error}", None
    if not np.isfinite(row).all():
        raise ValueError(
            f"The embedding of {name} holds NaN or Inf: check the clip and "
            "the model's weights."
        )
    return "", row


def _check_unreadable(
    unreadable: dict[int, str], num_clips: int, max_bad_fraction: float
) -> None:
    """Refuse a data set of which too much is broken."""
    bad = len(unreadable)
    if bad > max_bad_fraction * num_clips or bad == num_clips:
        raise ValueError(
            f"{bad} or more of {num_clips} clips cannot be read, more than "
            f"max_bad_fraction={max_bad_fraction} of them. The first: "
            f"{next(iter(unreadable.values()))}"
        )
