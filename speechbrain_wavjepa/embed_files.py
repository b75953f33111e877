"""Embeddings of many files: resumable, and what cannot be read is told.

Shapes: N tokens, D dim.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_wavjepa.data.sources import AUDIO_SUFFIXES, is_clip_name
from speechbrain_wavjepa.hyperparams import SETTINGS_FILE
from speechbrain_wavjepa.pretrained import load_pretrained
from speechbrain_wavjepa.streaming import embed_file, stream_file
from speechbrain_wavjepa.utils.files import atomic_file
from speechbrain_wavjepa.weights import ENCODER_FILE, LAYER_SUM_FILE

NOTE = "embeddings.json"  # what the files in a folder were made with


class EmbeddingReport(NamedTuple):
    """What became of the files.

    Arguments
    ---------
    embedded : int
        Files that are in the output.
    unreadable : dict[str, str]
        Files that are not, and why.

    Example
    -------
    >>> EmbeddingReport(3, {}).embedded
    3
    """

    embedded: int
    unreadable: dict[str, str]


def find_audio(places: Iterable[Union[str, Path]]) -> list[tuple[str, Path]]:
    """List the audio files of folders, and files as they are.

    Arguments
    ---------
    places : iterable of str or Path
        Files, and folders with files at any depth.

    Returns
    -------
    list of (str, Path)
        A name for each file, its path below the folder that was given, and
        where it is. Sorted by folder.

    Raises
    ------
    ValueError
        If a place does not exist, a folder has no audio, or two files have
        one name.

    Example
    -------
    >>> folder = getfixture("pretrained_folder")
    >>> [name for name, _ in find_audio([folder])]
    ['example.wav']
    """
    found: dict[str, Path] = {}
    for place in map(Path, places):
        inside = [place] if place.is_file() else []
        if place.is_dir():
            inside = sorted(
                path
                for path in place.rglob("*")
                if is_clip_name(path.name) and path.is_file()
            )
        if not inside:
            raise ValueError(
                f"{place} is neither a file nor a folder with files "
                f"{', '.join(AUDIO_SUFFIXES)}."
            )
        for path in inside:
            name = path.name if path == place else str(path.relative_to(place))
            if found.setdefault(name, path) != path:
                raise ValueError(
                    f"{found[name]} and {path} would have the same name in "
                    "the output: embed their common folder instead."
                )
    return list(found.items())


def embed_files(
    places: Sequence[Union[str, Path]],
    model: Union[str, Path],
    output: Union[str, Path],
    timestamps: bool = False,
    device: str = "cpu",
) -> EmbeddingReport:
    """Embed files; what a stopped run has embedded is not embedded again.

    Arguments
    ---------
    places : sequence of str or Path
        Files and folders.
    model : str or Path
        A pretrained folder.
    output : str or Path
        With the suffix .npz or .parquet one file is written; without a
        suffix a folder with one .npz for each sound.
    timestamps : bool
        One embedding for each token and its time, instead of one for each
        file.
    device : str
        Where to compute.

    Returns
    -------
    EmbeddingReport
        How many files were embedded, and which could not be read.

    Raises
    ------
    ValueError
        If a place, the model or the output does not fit.

    Example
    -------
    >>> folder = getfixture("pretrained_folder")
    >>> output = str(getfixture("tmpdir").join("embeddings.npz"))
    >>> embed_files([folder], folder, output)
    EmbeddingReport(embedded=1, unreadable={})
    >>> with np.load(output) as arrays:
    ...     arrays["names"].tolist(), arrays["embeddings"].shape
    (['example.wav'], (1, 16))
    """
    output = Path(output)
    if output.suffix not in ("", ".npz", ".parquet"):
        raise ValueError(
            f"The output {output} must end in .npz or .parquet, or be a "
            "folder without a suffix."
        )
    if output.suffix == ".parquet":
        _import_pyarrow()
    files = find_audio(places)
    encoder = load_pretrained(model).to(device)
    pieces = output
    if output.suffix:
        pieces = output.with_name(f"{output.name}.unfinished")
    _claim(pieces, {"model": hash_model(model), "timestamps": timestamps})
    unreadable = {}
    for name, path in tqdm(files, desc="embed", unit=" files"):
        piece = pieces / f"{name}.npz"
        if piece.exists():
            continue
        try:
            arrays = _embed(encoder, path, timestamps)
        except ValueError as error:
            reason = str(error)
            if str(path) not in reason:
                reason = f"{path}: {reason}"
            unreadable[str(path)] = reason
            continue
        piece.parent.mkdir(parents=True, exist_ok=True)
        _save(piece, arrays)
    names = [name for name, path in files if str(path) not in unreadable]
    if output.suffix:
        gather = _gather_npz if output.suffix == ".npz" else _gather_parquet
        gather(output, pieces, names)
        shutil.rmtree(pieces)
    return EmbeddingReport(len(names), unreadable)


def hash_model(folder: Union[str, Path]) -> str:
    """Tell a pretrained folder apart from all others.

    Arguments
    ---------
    folder : str or Path
        The folder.

    Returns
    -------
    str
        The SHA-256 of its settings and of all weights that embed.

    Example
    -------
    >>> len(hash_model(getfixture("pretrained_folder")))
    64
    """
    digest = hashlib.sha256()
    files = [Path(folder) / name for name in (SETTINGS_FILE, ENCODER_FILE)]
    layer_sum = Path(folder) / LAYER_SUM_FILE
    if layer_sum.exists():
        files.append(layer_sum)
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _claim(folder: Path, made_with: dict) -> None:
    """Write into a folder what it is for, or compare."""
    note = folder / NOTE
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) == made_with:
            return
        raise ValueError(
            f"{folder} holds embeddings of another model or kind: choose "
            "another output or delete it."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists and holds other things: choose another output."
        )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(made_with), encoding="utf-8")


def _embed(encoder, path: Path, timestamps: bool) -> dict[str, np.ndarray]:
    """Embed one file."""
    if not timestamps:
        return {"embeddings": embed_file(encoder, path).numpy(force=True)}
    tokens, times = zip(*stream_file(encoder, path))
    return {
        "embeddings": torch.cat(tokens).numpy(force=True),
        "times": torch.cat(times).numpy(),
    }


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays whole or not at all."""
    with atomic_file(path) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)


def _read(pieces: Path, names: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Read what was embedded of the files."""
    rows = []
    for name in names:
        with np.load(pieces / f"{name}.npz") as arrays:
            rows.append(dict(arrays))
    return rows


def _gather_npz(output: Path, pieces: Path, names: Sequence[str]) -> None:
    """Write one .npz; tokens of all files lie one behind the other."""
    rows = _read(pieces, names)
    arrays = {"names": np.array(names, dtype=str)}
    if rows and "times" in rows[0]:
        arrays["num_tokens"] = np.array([len(row["times"]) for row in rows])
        for key in ("embeddings", "times"):
            arrays[key] = np.concatenate([row[key] for row in rows])
    else:
        arrays["embeddings"] = np.array([row["embeddings"] for row in rows])
    _save(output, arrays)


def _gather_parquet(output: Path, pieces: Path, names: Sequence[str]) -> None:
    """Write one .parquet with a row for each file."""
    pyarrow, parquet = _import_pyarrow()
    rows = _read(pieces, names)
    columns = {"name": list(names)}
    for key in ("embeddings", "times"):
        if rows and key in rows[0]:
            columns[key] = [row[key].tolist() for row in rows]
    with atomic_file(output) as aside:
        parquet.write_table(pyarrow.table(columns), aside)


def _import_pyarrow():
    """Import pyarrow, or say how to get it."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            "Writing .parquet needs pyarrow: "
            "pip install 'speechbrain-wavjepa[data]'"
        ) from error
    return pyarrow, parquet
