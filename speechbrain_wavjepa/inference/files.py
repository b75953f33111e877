"""Embeddings of many files, which resume where they were interrupted.

An output holds one model's embeddings of sounds of known content. Each sound
is a piece of its own until all are there, so that a run resumes; one file is
then written piece by piece, so that memory does not grow with their number.
Several processes write a part each, and share nothing but the folder of parts.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import json
import re
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
    fingerprint,
    fingerprint_files,
    hash_file,
    hold,
    path_inside,
    read_note,
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
        reasons = {name: why for name, (_, why) in self.unreadable.items()}
        lost = {str(p): reasons[name] for name, p in files if name in reasons}
        doubtful = {name: why for name, (_, why) in self.sounds.items() if why}
        return EmbeddingReport(len(self.sounds), lost, doubtful, computed)


def find_audio(places: Iterable[Union[str, Path]]) -> Files:
    """List files, and the audio files of folders by their paths below them."""
    found: dict[str, Path] = {}
    for place in map(Path, places):
        root, inside = place.parent, [place]
        if not place.is_file():
            root, inside = place, sorted(place.rglob("*"))
            inside = [p for p in inside if is_clip_name(p.name) and p.is_file()]
        if not inside:
            kinds = ", ".join(AUDIO_SUFFIXES)
            raise ValueError(
                f"{place} is neither a file nor a folder with files {kinds}."
            )
        for path in inside:
            name = path.relative_to(root).as_posix()
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
    rank: int = 0,
    world_size: int = 1,
) -> EmbeddingReport:
    """Embed files and folders with a pretrained folder, or resume to do so.

    The output is a .npz or .parquet, or without a suffix a folder of one .npz
    a sound; with timestamps it holds each token and its time. One of another
    model, of other settings or sounds is refused, or with overwrite replaced.
    Of several processes each embeds other sounds: the output is a folder that
    holds a part of each, .parquet or a folder.
    """
    output = Path(output)
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank={rank} of world_size={world_size}: ranks count from 0 to "
            "world_size - 1."
        )
    if world_size > 1:
        output = _name_part(output, rank, world_size)
    if output.suffix not in ("", *GATHER) or output.suffix and output.is_dir():
        raise ValueError(
            f"{output} must be a file .npz or .parquet, a folder without a "
            "suffix, or of several processes (--world_size) a folder .parquet."
        )
    if output.suffix == ".parquet":
        require("pyarrow.parquet", "data")
    # by the name alone, so that a new file moves no other to another part
    files = [
        (name, path)
        for name, path in find_audio(places)
        if int(fingerprint(name), 16) % world_size == rank
    ]
    encoder = load_pretrained(model).to(find_device(device))
    made_with = _describe(model, timestamps)
    is_file, pieces = bool(output.suffix), output
    if is_file:  # readers of a folder of parts pass over what begins with _
        hidden = "_" * (world_size > 1)
        pieces = output.with_name(f"{hidden}{output.name}.unfinished")
    if world_size > 1 and not overwrite:
        _check_other_parts(output, made_with)
    with hold(pieces):
        if is_file and output.exists():
            finished = _read_finished(output)
            if different := compare(finished.made_with, made_with):
                different = f"with {different}"
            else:
                different, _ = _compare_sounds(finished, files)
            if not different:
                return finished.report(files, 0)
            if not overwrite:
                raise ValueError(f"{output} was made {different}: {WAY_OUT}.")
        if overwrite:
            _clear(pieces, made_with)
        claim(pieces, made_with, WAY_OUT)
        before = _Contents(made_with, _read_pieces(pieces), {})
        different, stale = _compare_sounds(before, files, is_whole=False)
        if different and not is_file and not overwrite:
            raise ValueError(f"{output} was made {different}: {WAY_OUT}.")
        for name in stale:
            _piece(pieces, name).unlink()
            del before.sounds[name]
        contents = _embed_missing(encoder, files, before, pieces, timestamps)
        if is_file:
            dim = encoder.embedding_model.dim
            GATHER[output.suffix](output, pieces, contents, dim)
            shutil.rmtree(pieces)
    computed = len(contents.sounds) - len(before.sounds)
    return contents.report(files, computed)


def hash_model(folder: Union[str, Path]) -> str:
    """Compute a SHA-256 of a folder's settings and of all weights that embed.

    Arguments
    ---------
    folder : str or Path

    Example
    -------
    >>> len(hash_model(getfixture("pretrained_folder")))
    64
    """
    folder = Path(folder)
    optional = [LAYER_SUM_FILE] * (folder / LAYER_SUM_FILE).exists()
    return fingerprint_files(folder, [SETTINGS_FILE, ENCODER_FILE, *optional])


def _name_part(folder: Path, rank: int, world_size: int) -> Path:
    """Name a process's part; refuse a folder that holds anything else."""
    if folder.suffix not in ("", ".parquet"):
        raise ValueError(
            f"{folder} cannot be written by {world_size} processes: choose a "
            ".parquet or a folder without a suffix, to be a folder of parts."
        )
    ending = f"-of-{world_size:05}{folder.suffix}"
    part = rf"_?part-\d{{5}}{re.escape(ending)}(\.unfinished)?"
    for path in [folder] if folder.is_file() else folder.glob("[!.]*"):
        if not re.fullmatch(part, path.name):
            raise ValueError(
                f"{path} is no part of {world_size} processes: go back to the "
                "world_size that it was made with, choose another output, or "
                f"delete {folder}."
            )
    return folder / f"part-{rank:05}{ending}"


def _check_other_parts(part: Path, made_with: Mapping[str, Any]) -> None:
    """Refuse a model or settings that the other parts were not made with."""
    for path in sorted(part.parent.glob("*part-*")):
        if part.name in path.name:
            continue
        with contextlib.suppress(FileNotFoundError):  # it has just finished
            if path.is_file():
                with _explain_foreign(path):
                    before = _read_metadata(path)
                    before.pop("unreadable")
            else:
                before = read_note(path / MADE_WITH_FILE)
            if different := compare(before, made_with):
                raise ValueError(
                    f"{path} was made with {different}: go back to the former, "
                    f"choose another output, or delete {part.parent}."
                )


def _describe(model: Union[str, Path], timestamps: bool) -> dict[str, Any]:
    """Gather all that embeddings depend on, but for the sounds."""
    names = {*ENCODER_SETTINGS, *RUNTIME_SETTINGS}
    kept = {k: v for k, v in read_settings(model).items() if k in names}
    kept |= {"made_by": MADE_BY, "version": __version__}
    return {**kept, "model": hash_model(model), "timestamps": timestamps}


@contextlib.contextmanager
def _explain_foreign(output: Path) -> Iterator[None]:
    """Say that a file of any origin is none of ours."""
    try:
        yield
    except Exception as error:  # KeyError, BadZipFile, ArrowInvalid, ...
        raise ValueError(
            f"{output} was not written by `{MADE_BY}`: choose another output, "
            "or delete it."
        ) from error


def _read_finished(output: Path) -> _Contents:
    """Read which sounds are in an output and what it was made with."""
    with _explain_foreign(output):
        if output.suffix == ".npz":
            with np.load(output) as arrays:
                metadata = json.loads(str(arrays[METADATA]))
                keys = ("names", "sha256", "doubtful")
                columns = [arrays[key].tolist() for key in keys]
        else:
            metadata = _read_metadata(output)
            with require("pyarrow.parquet", "data").ParquetFile(output) as file:
                table = file.read(["name", "sha256", "doubtful"])
            columns = [column.to_pylist() for column in table.columns]
        unreadable = metadata.pop("unreadable")
    names, *sounds = columns
    return _Contents(metadata, dict(zip(names, zip(*sounds))), unreadable)


def _read_metadata(output: Path) -> dict[str, Any]:
    """Read what no column of a .parquet holds."""
    schema = require("pyarrow.parquet", "data").read_schema(output)
    return json.loads(schema.metadata[METADATA.encode()])


def _compare_sounds(
    before: _Contents, files: Files, is_whole: bool = True
) -> tuple[str, list[str]]:
    """Say how sounds differ; name the stale ones. A part misses none."""
    known = {**before.unreadable, **before.sounds}
    names = {name for name, _ in files}
    missing = sorted(names - set(known)) if is_whole else []
    extra = sorted(set(before.sounds) - names)
    changed = []
    if not missing and not (is_whole and extra):  # hashing takes long
        there = [(name, path) for name, path in files if name in known]
        changed = [n for n, path in there if known[n][0] != _hash(path)]
    kinds = {"without": missing, "with": extra, "with another": changed}
    parts = [
        f"{kind} {', '.join(map(repr, some[:5]))}{', ...' * (len(some) > 5)}"
        for kind, some in kinds.items()
        if some
    ]
    different = "of other sounds, " * bool(parts) + " and ".join(parts)
    return different, extra + changed


def _hash(path: Path) -> str:
    """Compute the checksum of a file; "" if it cannot be read."""
    try:
        return hash_file(path)
    except OSError:
        return ""


def _piece(pieces: Path, name: str) -> Path:
    """Give the place of a sound's embeddings."""
    try:
        name.encode()  # it may hold bytes that are no text
        return path_inside(pieces, f"{name}.npz")
    except ValueError as error:
        reason = "is not UTF-8, or has backslashes or control characters"
        raise ValueError(f"{name!r} {reason}: rename it.") from error


def _read(pieces: Path, name: str, key: str) -> np.ndarray:
    """Read an array of what was embedded of a sound."""
    with np.load(_piece(pieces, name)) as arrays:
        return arrays[key]


def _list_pieces(pieces: Path) -> list[Path]:
    """List what was embedded."""
    return [piece for piece in pieces.rglob("*.npz") if piece.is_file()]


def _read_pieces(pieces: Path) -> dict[str, tuple[str, str]]:
    """Read which sounds are embedded; what a disk has damaged is deleted."""
    sounds = {}
    for piece in _list_pieces(pieces):
        name = piece.relative_to(pieces).as_posix().removesuffix(".npz")
        try:
            with np.load(piece) as arrays:
                sounds[name] = str(arrays["sha256"]), str(arrays["doubtful"])
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            piece.unlink()
    return sounds


def _clear(pieces: Path, made_with: Mapping[str, Any]) -> None:
    """Delete embeddings that something else was made with."""
    note = pieces / MADE_WITH_FILE
    before = read_note(note) if note.exists() else {}
    if before.get("made_by") == MADE_BY and compare(before, made_with):
        for path in [*_list_pieces(pieces), note]:
            path.unlink()


def _embed_missing(
    encoder: TokenEncoder,
    files: Files,
    before: _Contents,
    pieces: Path,
    timestamps: bool,
) -> _Contents:
    """Embed what was not there before; give the contents, in order."""
    contents = _Contents(before.made_with, {}, {})
    for name, path in tqdm(files, desc="embed", unit=" files"):
        if name in before.sounds:
            contents.sounds[name] = before.sounds[name]
            continue
        sound = ""
        try:
            sound = hash_file(path)
            piece = _piece(pieces, name)
            arrays = _embed(encoder, path, timestamps)
        except (ValueError, OSError) as error:
            place = f"{path}: " * (str(path) not in str(error))
            contents.unreadable[name] = [sound, f"{place}{error}"]
            continue
        piece.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(piece) as aside, open(aside, "wb") as file:
            np.savez(file, sha256=np.array(sound), **arrays)
        contents.sounds[name] = sound, str(arrays["doubtful"])
    return contents


def _embed(
    encoder: TokenEncoder, path: Path, timestamps: bool
) -> dict[str, np.ndarray]:
    """Embed one file."""
    measured, doubtful = measure_file(encoder, path), ""
    if measured.num_samples < encoder.embedding_model.grid.receptive_field:
        doubtful = "shorter than a token"
    if not measured.rms > 0:
        doubtful = "digital silence"
    arrays = {"doubtful": np.array(doubtful)}
    if timestamps:
        tokens, times = zip(*stream_file(encoder, path, measured))
        embedding, arrays["times"] = torch.cat(tokens), torch.cat(times).numpy()
    else:
        embedding = embed_file(encoder, path, measured)
    return {"embeddings": embedding.numpy(force=True), **arrays}


def _gather_npz(
    output: Path, pieces: Path, contents: _Contents, dim: int
) -> None:
    """Write one .npz; tokens of all files lie one behind the other."""

    def read(key: str) -> Iterator[np.ndarray]:
        return (_read(pieces, name, key) for name in contents.sounds)

    total = len(contents.sounds)
    texts = {METADATA: contents.metadata(), "names": list(contents.sounds)}
    texts["sha256"] = [sound for sound, _ in contents.sounds.values()]
    texts["doubtful"] = [why for _, why in contents.sounds.values()]
    columns = {}  # type, shape, and the arrays that it is made of
    for key, values in texts.items():
        array = np.array(values, dtype=str)
        columns[key] = array.dtype.str, array.shape, [array]
    if contents.made_with["timestamps"]:
        counts = [len(times) for times in read("times")]
        columns["num_tokens"] = "<i8", (total,), [counts]
        total = sum(counts)
        columns["times"] = "<f8", (total,), read("times")
    columns["embeddings"] = "<f4", (total, dim), read("embeddings")
    with atomic_file(output) as aside, zipfile.ZipFile(aside, "w") as archive:
        for key, (kind, shape, arrays) in columns.items():
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, header)
                for array in arrays:
                    file.write(np.ascontiguousarray(array, kind).tobytes())


def _gather_parquet(
    output: Path, pieces: Path, contents: _Contents, dim: int
) -> None:
    """Write one .parquet with a row for each file."""
    pyarrow = require("pyarrow", "data")
    open_parquet = require("pyarrow.parquet", "data").ParquetWriter
    timestamps = contents.made_with["timestamps"]
    vector = pyarrow.list_(pyarrow.float32(), dim)
    fields = dict.fromkeys(("name", "sha256", "doubtful"), pyarrow.string())
    fields["embeddings"] = pyarrow.list_(vector) if timestamps else vector
    if timestamps:
        fields["times"] = pyarrow.list_(pyarrow.float64())
    metadata = {METADATA: contents.metadata()}
    schema = pyarrow.schema(fields.items(), metadata=metadata)
    rows, values = [], 0
    with atomic_file(output) as aside, open_parquet(aside, schema) as writer:
        for name, (sound, why) in contents.sounds.items():
            row = {"name": name, "sha256": sound, "doubtful": why}
            row["embeddings"] = embeddings = _read(pieces, name, "embeddings")
            if timestamps:
                row["embeddings"] = list(embeddings)
                row["times"] = _read(pieces, name, "times")
            rows.append(row)
            values += embeddings.size
            if values >= GROUP_VALUES:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows, values = [], 0
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))


GATHER = {".npz": _gather_npz, ".parquet": _gather_parquet}
