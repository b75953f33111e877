"""One embedding for each clip of a data set, computed once and kept.

Source: ARCH (https://arxiv.org/abs/2405.00934): clips are resampled channel
by channel, then channels are averaged.

Shapes: n clips, T samples, C channels, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.downstream.arch.datasets import (
    ArchDataset,
    name_files,
)
from speechbrain_wavjepa.downstream.files import read_clip
from speechbrain_wavjepa.utils.files import atomic_folder, hold

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
