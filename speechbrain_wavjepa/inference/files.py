"""Embeddings of many files, which resume where they were interrupted.

Each embedding belongs to a sound of one content and to one model; an output
is never mixed. Memory does not grow with the number of files: each sound is a
piece of its own until all are there, and one file is written piece by piece.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_wavjepa import __version__
from speechbrain_wavjepa.dataio.shards import AUDIO_SUFFIXES, is_clip_name
from speechbrain_wavjepa.inference.config import (
    ENCODER_SETTINGS,
    RUNTIME_SETTINGS,
    SETTINGS_FILE,
    read_settings,
)
from speechbrain_wavjepa.inference.encoder import TokenEncoder
from speechbrain_wavjepa.inference.pretrained import (
    ENCODER_FILE,
    LAYER_SUM_FILE,
    load_pretrained,
)
from speechbrain_wavjepa.inference.streaming import (
    embed_file,
    measure_file,
    stream_file,
)
from speechbrain_wavjepa.utils.environment import find_device, require
from speechbrain_wavjepa.utils.files import (
    MADE_WITH_FILE,
    atomic_file,
    claim,
    compare,
    fingerprint_files,
    hash_file,
    hold,
    path_inside,
)

Files = Sequence[tuple[str, Path]]  # the name of each in the output

MADE_BY = "wavjepa embed"
METADATA = "metadata"  # its name in a .npz and in a .parquet
GROUP_VALUES = 2**22  # of a row group of a .parquet
WAY_OUT = "choose another output, or replace it with --overwrite"


class EmbeddingReport(NamedTuple):
    """What became of the files."""

    embedded: int  # files in the output
    unreadable: dict[str, str]  # paths that are not, and why
    doubtful: dict[str, str]  # names of silent or very short files in it
    computed: int  # files that were embedded now


class _Contents(NamedTuple):
    """What is in an output, by the names of the sounds."""

    made_with: dict[str, Any]
    sounds: dict[str, tuple[str, str]]  # SHA-256, and why doubtful ("": not)
    unreadable: dict[str, list[str]]  # SHA-256, and why; not in the output

    def metadata(self) -> str:
        """Write what no column holds."""
        return json.dumps({**self.made_with, "unreadable": self.unreadable})

    def report(self, files: Files, computed: int) -> EmbeddingReport:
        """Tell a user what is in an output."""
        unreadable = {
            str(path): self.unreadable[name][1]
            for name, path in files
            if name in self.unreadable
        }
        doubtful = {name: why for name, (_, why) in self.sounds.items() if why}
        return EmbeddingReport(len(self.sounds), unreadable, doubtful, computed)


def find_audio(places: Iterable[Union[str, Path]]) -> Files:
    """List files, and the audio files of folders by their paths below them."""
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
            name = path.name
            if path != place:
                name = path.relative_to(place).as_posix()
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
    overwrite: bool = False,
) -> EmbeddingReport:
    """Embed files and folders with a pretrained folder, or resume to do so.

    The output is one .npz or .parquet, or without a suffix a folder with one
    .npz for each sound. With timestamps there is an embedding for each token
    and its time. One of another model, of other settings or sounds is refused
    (ValueError), or with overwrite replaced.

    Example
    -------
    >>> folder = getfixture("pretrained_folder")
    >>> output = str(getfixture("tmpdir").join("embeddings.npz"))
    >>> embed_files([folder], folder, output).embedded
    1
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
    if output.suffix and output.is_dir():
        raise ValueError(f"{output} is a folder: choose another output.")
    if output.suffix == ".parquet":
        require("pyarrow.parquet", "data")
    files = find_audio(places)
    encoder = load_pretrained(model).to(find_device(device))
    made_with = _describe(model, timestamps)
    pieces = output
    if output.suffix:
        pieces = output.with_name(f"{output.name}.unfinished")
    with hold(pieces):
        if output.suffix and output.exists():
            finished = _read_finished(output)
            different = compare(finished.made_with, made_with)
            if different:
                different = f"was made with {different}"
            else:
                different, _ = _compare_sounds(finished, files)
            if not different:
                return finished.report(files, 0)
            if not overwrite:
                raise ValueError(f"{output} {different}: {WAY_OUT}.")
        if overwrite:
            _clear(pieces, made_with)
        claim(pieces, made_with, WAY_OUT)
        contents = _Contents(made_with, _read_pieces(pieces), {})
        different, stale = _compare_sounds(contents, files, is_whole=False)
        if different and not output.suffix and not overwrite:
            raise ValueError(f"{output} {different}: {WAY_OUT}.")
        for name in stale:
            _piece(pieces, name).unlink()
            del contents.sounds[name]
        before = len(contents.sounds)
        _embed_missing(encoder, files, contents, pieces, timestamps)
        computed = len(contents.sounds) - before
        sounds = contents.sounds
        in_order = {name: sounds[name] for name, _ in files if name in sounds}
        contents = contents._replace(sounds=in_order)
        if output.suffix:
            gather = _gather_npz if output.suffix == ".npz" else _gather_parquet
            gather(output, pieces, contents, encoder.embedding_model.dim)
            shutil.rmtree(pieces)
    return contents.report(files, computed)


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
    names = [SETTINGS_FILE, ENCODER_FILE]
    if (Path(folder) / LAYER_SUM_FILE).exists():
        names.append(LAYER_SUM_FILE)
    return fingerprint_files(Path(folder), names)


def _describe(model: Union[str, Path], timestamps: bool) -> dict[str, Any]:
    """Gather all that embeddings depend on, but for the sounds."""
    settings = read_settings(model)
    names = (*ENCODER_SETTINGS, *RUNTIME_SETTINGS)
    return {
        "made_by": MADE_BY,
        "version": __version__,
        "model": hash_model(model),
        "timestamps": timestamps,
        **{name: settings[name] for name in names if name in settings},
    }


def _read_finished(output: Path) -> _Contents:
    """Read which sounds are in an output and what it was made with."""
    try:
        if output.suffix == ".npz":
            with np.load(output) as arrays:
                metadata = json.loads(str(arrays[METADATA]))
                keys = ("names", "sha256", "doubtful")
                columns = [arrays[key].tolist() for key in keys]
        else:
            parquet = require("pyarrow.parquet", "data")
            with parquet.ParquetFile(output) as file:
                found = file.schema_arrow.metadata or {}
                metadata = json.loads(found[METADATA.encode()])
                table = file.read(["name", "sha256", "doubtful"])
            columns = [column.to_pylist() for column in table.columns]
        unreadable = metadata.pop("unreadable")
    # a file of any origin: KeyError, BadZipFile, ArrowInvalid, ...
    except Exception as error:
        raise ValueError(
            f"{output} exists and was not written by `{MADE_BY}`: choose "
            "another output, or delete it."
        ) from error
    names, sha256, doubtful = columns
    sounds = dict(zip(names, zip(sha256, doubtful)))
    return _Contents(metadata, sounds, unreadable)


def _compare_sounds(
    before: _Contents, files: Files, is_whole: bool = True
) -> tuple[str, list[str]]:
    """Say how the sounds of an output differ from files, and name these.

    Only of a whole output can sounds be missing. It is "", [] if none differ.
    """
    checksums = {name: sound for name, (sound, _) in before.unreadable.items()}
    checksums |= {name: sound for name, (sound, _) in before.sounds.items()}
    names = {name for name, _ in files}
    missing = sorted(names - set(checksums)) if is_whole else []
    extra = sorted(set(before.sounds) - names)
    changed = []
    if not missing and not (is_whole and extra):  # hashing takes long
        changed = [
            name
            for name, path in files
            if name in checksums and checksums[name] != _hash_readable(path)
        ]
    kinds = (
        ("without", missing),
        ("with", extra),
        ("with another content of", changed),
    )
    parts = [f"{kind} {_list(some)}" for kind, some in kinds if some]
    if not parts:
        return "", []
    return f"was made of other sounds, {' and '.join(parts)}", extra + changed


def _hash_readable(path: Path) -> str:
    """Compute the checksum of a file; "" if it cannot be read."""
    try:
        return hash_file(path)
    except OSError:
        return ""


def _list(names: Sequence[str]) -> str:
    """Write a few names."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(map(repr, names[:5]))}{more}"


def _piece(pieces: Path, name: str) -> Path:
    """Give the place of a sound's embeddings."""
    try:
        name.encode()  # it may hold bytes that are no text
        return path_inside(pieces, f"{name}.npz")
    except ValueError as error:
        raise ValueError(
            f"The name {name!r} is not UTF-8, or has backslashes or control "
            "characters: rename it."
        ) from error


def _read(pieces: Path, name: str, key: str) -> np.ndarray:
    """Read an array of what was embedded of a sound."""
    with np.load(_piece(pieces, name)) as arrays:
        return arrays[key]


def _read_pieces(pieces: Path) -> dict[str, tuple[str, str]]:
    """Read which sounds are embedded; what a disk has damaged is deleted."""
    sounds = {}
    for piece in pieces.rglob("*.npz"):
        try:
            with np.load(piece) as arrays:
                sound = str(arrays["sha256"]), str(arrays["doubtful"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            piece.unlink()
            continue
        sounds[piece.relative_to(pieces).as_posix()[: -len(".npz")]] = sound
    return sounds


def _clear(pieces: Path, made_with: Mapping[str, Any]) -> None:
    """Delete embeddings that something else was made with."""
    note = pieces / MADE_WITH_FILE
    if not note.exists():
        return
    before = json.loads(note.read_text(encoding="utf-8"))
    if before.get("made_by") == MADE_BY and compare(before, made_with):
        for piece in pieces.rglob("*.npz"):
            piece.unlink()
        note.unlink()


def _embed_missing(
    encoder: TokenEncoder,
    files: Files,
    contents: _Contents,
    pieces: Path,
    timestamps: bool,
) -> None:
    """Embed what is not in the contents, and add it, readable or not."""
    for name, path in tqdm(files, desc="embed", unit=" files"):
        if name in contents.sounds:
            continue
        sound = ""
        try:
            sound = hash_file(path)
            piece = _piece(pieces, name)
            arrays = _embed(encoder, path, timestamps)
        except (ValueError, OSError) as error:
            reason = str(error)
            if str(path) not in reason:
                reason = f"{path}: {reason}"
            contents.unreadable[name] = [sound, reason]
            continue
        piece.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(piece) as aside, open(aside, "wb") as file:
            np.savez(file, sha256=np.array(sound), **arrays)
        contents.sounds[name] = sound, str(arrays["doubtful"])


def _embed(
    encoder: TokenEncoder, path: Path, timestamps: bool
) -> dict[str, np.ndarray]:
    """Embed one file."""
    measured = measure_file(encoder, path)
    doubtful = ""
    if measured.num_samples < encoder.embedding_model.grid.receptive_field:
        doubtful = "shorter than a token"
    if not measured.rms > 0:
        doubtful = "digital silence"
    arrays = {"doubtful": np.array(doubtful)}
    if not timestamps:
        embedding = embed_file(encoder, path, measured)
        return {"embeddings": embedding.numpy(force=True), **arrays}
    tokens, times = zip(*stream_file(encoder, path, measured))
    arrays["times"] = torch.cat(times).numpy()
    return {"embeddings": torch.cat(tokens).numpy(force=True), **arrays}


def _gather_npz(
    output: Path, pieces: Path, contents: _Contents, dim: int
) -> None:
    """Write one .npz; tokens of all files lie one behind the other."""
    names, total = list(contents.sounds), len(contents.sounds)

    def read(key: str) -> Iterator[np.ndarray]:
        return (_read(pieces, name, key) for name in names)

    texts = {"names": names}
    texts["sha256"] = [sound for sound, _ in contents.sounds.values()]
    texts["doubtful"] = [why for _, why in contents.sounds.values()]
    metadata = contents.metadata()
    columns = {METADATA: (f"<U{len(metadata)}", (), [metadata])}
    for key, values in texts.items():
        longest = max([1, *map(len, values)])
        columns[key] = f"<U{longest}", (total,), values
    if contents.made_with["timestamps"]:
        counts = [len(times) for times in read("times")]
        columns["num_tokens"] = "<i8", (total,), counts
        total = sum(counts)
        columns["times"] = "<f8", (total,), read("times")
    columns["embeddings"] = "<f4", (total, dim), read("embeddings")
    with (
        atomic_file(output) as aside,
        zipfile.ZipFile(aside, "w") as archive,
    ):
        for key, (kind, shape, blocks) in columns.items():
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for block in blocks:
                    file.write(np.ascontiguousarray(block, kind).tobytes())


def _gather_parquet(
    output: Path, pieces: Path, contents: _Contents, dim: int
) -> None:
    """Write one .parquet with a row for each file."""
    pyarrow = require("pyarrow", "data")
    parquet = require("pyarrow.parquet", "data")
    timestamps = contents.made_with["timestamps"]
    vector = pyarrow.list_(pyarrow.float32(), dim)
    columns = dict.fromkeys(("name", "sha256", "doubtful"), pyarrow.string())
    columns["embeddings"] = pyarrow.list_(vector) if timestamps else vector
    if timestamps:
        columns["times"] = pyarrow.list_(pyarrow.float64())
    schema = pyarrow.schema(
        columns.items(), metadata={METADATA: contents.metadata()}
    )
    with (
        atomic_file(output) as aside,
        parquet.ParquetWriter(aside, schema) as writer,
    ):
        for group in _group(pieces, contents.sounds):
            names, rows = zip(*group)
            sha256, doubtful = zip(*(contents.sounds[name] for name in names))
            table = {"name": names, "sha256": sha256, "doubtful": doubtful}
            flat = np.concatenate(rows, axis=None).astype(np.float32)
            vectors = pyarrow.FixedSizeListArray.from_arrays(flat, dim)
            table["embeddings"] = vectors
            if timestamps:
                ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
                times = np.concatenate(
                    [_read(pieces, name, "times") for name in names]
                )
                for key, values in (("embeddings", vectors), ("times", times)):
                    table[key] = pyarrow.ListArray.from_arrays(ends, values)
            writer.write_table(pyarrow.table(table, schema))


def _group(
    pieces: Path, names: Iterable[str]
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Read embeddings by name, in groups of at least GROUP_VALUES values."""
    group, values = [], 0
    for name in names:
        group.append((name, _read(pieces, name, "embeddings")))
        values += group[-1][1].size
        if values >= GROUP_VALUES:
            yield group
            group, values = [], 0
    if group:
        yield group
