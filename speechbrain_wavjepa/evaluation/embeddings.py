"""Embeddings of labelled clips, computed once and kept on the disk.

They lie under the fingerprint of model and data, are written whole or not at
all, by one process at a time, and are mapped from the disk. The clips of a
HEAR task (https://arxiv.org/abs/2203.03022) are in the kit's order: that of
the labels' json, shuffled once. Clips of ARCH
(https://arxiv.org/abs/2405.00934) are resampled, then channels are averaged.

Shapes: n clips, T samples, C channels, N tokens of a clip, R rows, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import itertools
import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
import torchaudio
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.dataio.clips import read_clip
from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset, name_files
from speechbrain_wavjepa.evaluation.hear_task import HearTask, read_header
from speechbrain_wavjepa.utils.files import atomic_folder, fingerprint, hold
from speechbrain_wavjepa.utils.processes import (
    LoaderWorkers,
    explain_dead_workers,
)

logger = logging.getLogger(__name__)

SECONDS_AT_ONCE = 80  # of sound in a batch, where clips have one length
# From clips [n, T, C] to embeddings [n, D], or to [n, N, D] and times [n, N]
# in milliseconds.
Embedder = Callable[[Tensor], Union[Tensor, tuple[Tensor, Tensor]]]


def _keep(folder, names, embed) -> dict[str, Any]:
    """Read the embeddings of a folder; make and write them if there are none.

    ``embed`` gives arrays, and plain values for ``clips.json``.
    """
    if not folder.exists():
        with hold(folder.parent), atomic_folder(folder) as aside:
            note = {"names": names}
            for key, value in embed().items():
                if isinstance(value, np.ndarray):
                    np.save(aside / f"{key}.npy", value)
                else:
                    note[key] = value
            (aside / "clips.json").write_text(json.dumps(note), "utf-8")
    note = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
    if note["names"] != names:
        raise ValueError(
            f"{folder} holds embeddings of other clips than there are now: "
            "delete it."
        )
    arrays = {
        path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")
    }
    return {**note, **arrays}


def _check_finite(rows: Tensor, clips: str) -> np.ndarray:
    """Refuse embeddings that are not finite; give them as float32."""
    rows = rows.float().numpy(force=True)
    if not np.isfinite(rows).all():
        raise ValueError(
            f"The embedding of {clips} holds NaN or Inf: check the clip and "
            "the model's weights."
        )
    return rows


class SplitEmbeddings(NamedTuple):
    """The embeddings of a HEAR split: a row for each clip, or each token."""

    names: list[str]  # of the clips, in their order
    rows: np.ndarray  # [R, D]
    num_rows: list[int]  # of each clip
    times: Optional[np.ndarray] = None  # [R] of tokens, in milliseconds

    def read(self) -> Tensor:
        """Read all rows [R, D] into memory, in float32."""
        return torch.from_numpy(np.array(self.rows)).float()

    def slices(self) -> Iterator[tuple[str, slice]]:
        """Name each clip and its rows."""
        stops = itertools.accumulate(self.num_rows)
        for name, count, stop in zip(self.names, self.num_rows, stops):
            yield name, slice(stop - count, stop)


def embed_task(
    task: HearTask,
    embedder: Embedder,
    key: str,
    cache_folder: Union[str, Path],
) -> dict[str, SplitEmbeddings]:
    """Embed all clips of a task, split by split, or read what is kept.

    ``key`` tells models apart. Embeddings of another key, or of a task whose
    labels or clips have changed, are never read.
    """
    place = Path(cache_folder) / task.folder.resolve().name
    folder = place / fingerprint(key, task.fingerprints())
    order = random.Random(0)
    splits = {}
    for split in task.splits:
        names = list(task.clips[split])
        order.shuffle(names)
        embed = functools.partial(_embed_split, task, split, names, embedder)
        kept = _keep(folder / split, names, embed)
        splits[split] = SplitEmbeddings(
            names, kept["rows"], kept["num_rows"], kept.get("times")
        )
    return splits


@torch.no_grad()
def _embed_split(task, split, names, embedder) -> dict[str, Any]:
    """Embed the clips of a split."""
    rows, times, num_rows = [], [], []
    for batch in _batches(task, split, names):
        output = embedder(torch.stack(list(batch.values())))
        if task.embedding_type == "event":
            output, milliseconds = output  # [n, N, D], [n, N]
            times.append(milliseconds.flatten().double().cpu().numpy())
        clips = f"{split}/{next(iter(batch))} to {next(reversed(batch))}"
        rows.append(_check_finite(output.reshape(-1, output.shape[-1]), clips))
        num_rows += [len(rows[-1]) // len(batch)] * len(batch)
    found = {"rows": np.concatenate(rows), "num_rows": num_rows}
    return {**found, "times": np.concatenate(times)} if times else found


def _batches(task, split, names) -> Iterator[dict[str, Tensor]]:
    """Read clips [T, C]: neighbours of one shape, up to some seconds."""
    batch: dict[str, Tensor] = {}
    for name in tqdm(names, f"embed {task.name} {split}", unit=" clips"):
        clip = task.read_clip(split, name)
        at_once = SECONDS_AT_ONCE * task.sample_rate // len(clip)
        shape = next((other.shape for other in batch.values()), clip.shape)
        if batch and (clip.shape != shape or len(batch) >= at_once):
            yield batch
            batch = {}
        batch[name] = clip
    yield batch


def make_targets(
    task: HearTask, split: str, embeddings: SplitEmbeddings
) -> np.ndarray:
    """Make the targets [R, L] of all rows: see ``HearTask.targets``."""
    times = embeddings.times
    return np.concatenate(
        [
            task.targets(split, name, None if times is None else times[rows])
            for name, rows in embeddings.slices()
        ]
    )


class ClipEmbeddings(NamedTuple):
    """The embeddings of an ARCH data set."""

    rows: np.ndarray  # [n, D], zeros where a clip could not be read
    unreadable: dict[int, str]  # why not, by the clip's number


def embed_dataset(
    dataset: ArchDataset,
    embed: Callable[[Tensor], Tensor],
    sample_rate: int,
    key: str,
    cache_folder: Union[str, Path],
    max_bad_fraction: float = 0.05,
    num_workers: int = 0,
) -> ClipEmbeddings:
    """Embed all clips [1, T] of a data set one by one, or read what is kept.

    ``key`` tells models and data sets (``fingerprint_dataset``) apart;
    ``num_workers`` processes read files, of which ``max_bad_fraction`` may be
    unreadable.
    """
    names = name_files(dataset)
    kept = _keep(
        Path(cache_folder) / dataset.name / key,
        names,
        lambda: _embed_clips(
            dataset, names, embed, sample_rate, max_bad_fraction, num_workers
        ),
    )
    unreadable = {int(n): why for n, why in kept["unreadable"].items()}
    _check_unreadable(unreadable, len(names), max_bad_fraction)
    if unreadable:
        logger.warning(
            f"{dataset.name}: {len(unreadable)} clips cannot be read. The "
            f"first: {next(iter(unreadable.values()))}"
        )
    return ClipEmbeddings(kept["rows"], unreadable)


def _embed_clips(
    dataset, names, embed, sample_rate, max_bad_fraction, num_workers
) -> dict[str, Any]:
    """Embed clips: rows [n, D], and why some could not be."""
    absent = [path for path in dataset.paths if not path.is_file()]
    if len(absent) > max_bad_fraction * len(names):
        raise ValueError(
            f"{len(absent)} of {len(names)} clips of {dataset.name} are not "
            f"there, more than max_bad_fraction={max_bad_fraction} of them, "
            f"such as {absent[0]}: is the data set unpacked?"
        )
    clips = torch.utils.data.DataLoader(
        dataset.paths,
        batch_size=None,
        collate_fn=functools.partial(_try_read, sample_rate),
        num_workers=num_workers,
        worker_init_fn=LoaderWorkers(),
    )
    rows, unreadable = {}, {}
    progress = tqdm(clips, desc=f"embed {dataset.name}", unit=" clips")
    with explain_dead_workers("lower num_workers"), torch.no_grad():
        for number, clip in enumerate(progress):
            if not isinstance(clip, str):
                try:
                    row = embed(clip[None])[0]
                except ValueError as error:  # such as shorter than a token
                    clip = f"{names[number]} cannot be embedded: {error}"
                else:
                    rows[number] = _check_finite(row, names[number])
            if isinstance(clip, str):
                unreadable[number] = clip
                _check_unreadable(unreadable, len(names), max_bad_fraction)
    nothing = np.zeros_like(next(iter(rows.values())))
    filled = [rows.get(number, nothing) for number in range(len(names))]
    return {"rows": np.stack(filled), "unreadable": unreadable}


def _check_unreadable(unreadable, num_clips, max_bad_fraction) -> None:
    """Refuse a data set of which too much is broken."""
    bad = len(unreadable)
    if bad > max_bad_fraction * num_clips or bad == num_clips:
        raise ValueError(
            f"{bad} or more of {num_clips} clips cannot be read, more than "
            f"max_bad_fraction={max_bad_fraction} of them. The first: "
            f"{next(iter(unreadable.values()))}"
        )


def _try_read(sample_rate: int, path: Path) -> Union[Tensor, str]:
    """Read a clip [T], or say why it cannot be read."""
    try:
        return read_mono(path, sample_rate)
    except ValueError as error:
        return str(error)


def read_mono(path: Union[str, Path], sample_rate: int) -> Tensor:
    """Read a clip [T] as ARCH does: the mean of its resampled channels."""
    rate = read_header(path).samplerate
    channels = read_clip(Path(path), rate).T.contiguous()  # [C, T]
    if len(channels) > 2:
        logger.warning(f"{path}: the mean of {len(channels)} channels is taken")
    if rate != sample_rate:
        channels = _resampler(rate, sample_rate)(channels)
    return channels.mean(dim=0)


@functools.cache
def _resampler(rate: int, new_rate: int) -> torchaudio.transforms.Resample:
    """Design the filter that ARCH uses, torchaudio's default."""
    return torchaudio.transforms.Resample(rate, new_rate)
