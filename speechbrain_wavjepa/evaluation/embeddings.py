"""Embeddings of labelled clips, computed once and kept on the disk.

What is kept lies under the fingerprint of model and data, is written whole or
not at all, by one process at a time, and is mapped from the disk.

The order of a HEAR task's clips is that of the HEAR kit
(https://arxiv.org/abs/2203.03022): as in the labels' json, then shuffled once
with a fixed seed that runs on from split to split. Probes are trained in it.
Clips of ARCH (https://arxiv.org/abs/2405.00934) are resampled channel by
channel, then channels are averaged.

Shapes: n clips, T samples, C channels, N tokens of a clip, R rows, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import itertools
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
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


def _keep(
    folder: Path, names: list[str], embed: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
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


def _check_finite(rows: Tensor, clips: str) -> Tensor:
    """Refuse embeddings that are not finite; move them to the CPU."""
    rows = rows.float().cpu()
    if not bool(rows.isfinite().all()):
        raise ValueError(
            f"The embedding of {clips} holds NaN or Inf: check the clip and "
            "the model's weights."
        )
    return rows


class SplitEmbeddings(NamedTuple):
    """The embeddings of a HEAR split: a row for each clip, or for each token.

    ``names`` of the clips in their order, ``rows`` [R, D], the number of rows
    of each clip, and the times [R] of tokens in milliseconds, none for scenes.
    """

    names: list[str]
    rows: np.ndarray
    num_rows: list[int]
    times: Optional[np.ndarray] = None

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


def _embed_split(
    task: HearTask, split: str, names: list[str], embedder: Embedder
) -> dict[str, Any]:
    """Embed the clips of a split."""
    rows, times, num_rows = [], [], []
    progress = tqdm(
        total=len(names), desc=f"embed {task.name} {split}", unit=" clips"
    )
    with progress, torch.no_grad():
        for batch in _batches(task, split, names):
            embeddings = embedder(batch)
            if task.embedding_type == "event":
                embeddings, milliseconds = embeddings  # [n, N, D], [n, N]
                times.append(milliseconds.flatten().cpu())
            first, last = progress.n, progress.n + len(batch) - 1
            clips = f"{split}/{names[first]} to {names[last]}"
            found = _check_finite(
                embeddings.reshape(-1, embeddings.shape[-1]), clips
            )
            rows.append(found)
            num_rows += [len(found) // len(batch)] * len(batch)
            progress.update(len(batch))
    found = {"rows": torch.cat(rows).numpy(), "num_rows": num_rows}
    if times:
        found["times"] = torch.cat(times).double().numpy()
    return found


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
    """The embeddings of an ARCH data set.

    ``rows`` [n, D] of each clip, zeros where it could not be read, and why
    clips could not be read, by their number.
    """

    rows: np.ndarray
    unreadable: dict[int, str]


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
                    rows[number] = _check_finite(row, names[number]).numpy()
            if isinstance(clip, str):
                unreadable[number] = clip
                _check_unreadable(unreadable, len(names), max_bad_fraction)
    nothing = np.zeros_like(next(iter(rows.values())))
    filled = [rows.get(number, nothing) for number in range(len(names))]
    return {"rows": np.stack(filled), "unreadable": unreadable}


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
