"""Embeddings of a task, computed once and kept on disk.

The order of the clips is that of the HEAR kit: as in the labels' json, then
shuffled once with a fixed seed that runs on from split to split. It is the
order in which probes are trained.

Shapes: n clips, T samples, C channels, N tokens of a clip, R rows, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechbrain_wavjepa.downstream.tasks import HearTask
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
