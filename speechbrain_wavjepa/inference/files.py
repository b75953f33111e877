"""Embeddings of many files: resumable, and what cannot be read is told.

Each embedding belongs to a sound of one content and to one model; an output
is never mixed. Memory does not grow with the number of files: each sound is a
piece of its own until all are there, and one file is written piece by piece.

Shapes: N tokens, D dim.

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
from speechbrain_wavjepa.utils.environment import find_device
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

MADE_BY = "wavjepa embed"
METADATA = "metadata"  # its name in a .npz and in a .parquet
GROUP_VALUES = 2**22  # of a row group of a .parquet


class EmbeddingReport(NamedTuple):
    """What became of the files.

    Arguments
    ---------
    embedded : int
        Files that are in the output.
    unreadable : dict[str, str]
        Files that are not, and why.
    doubtful : dict[str, str]
        Names of files that are embedded although they hold no sound, and
        what they are: "digital silence" or "shorter than a token".
    computed : int
        Files that were embedded now; the others were there before.

    Example
    -------
    >>> EmbeddingReport(3, {}, {}, 3).embedded
    3
    """

    embedded: int
    unreadable: dict[str, str]
    doubtful: dict[str, str]
    computed: int


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
    overwrite : bool
        Replace an output of another model, of other settings or sounds.

    Returns
    -------
    EmbeddingReport
        How many files were embedded, and which could not be read.

    Raises
    ------
    ValueError
        If a place, the model or the output does not fit, another process
        writes the output, or it holds something else.

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
        _import_pyarrow()
    files = find_audio(places)
    encoder = load_pretrained(model).to(find_device(device))
    made_with = _describe(model, timestamps)
    pieces = output
    if output.suffix:
        pieces = output.with_name(f"{output.name}.unfinished")
    with hold(pieces):
        if output.suffix and output.exists():
            finished = _read_finished(output)
            different = _compare_finished(finished, made_with, files)
            if not different:
                return _report(finished, files, 0)
            if not overwrite:
                raise ValueError(
                    f"{output} {different}: choose another output, or replace "
                    "it with --overwrite."
                )
        if overwrite:
            _clear(pieces, made_with)
        claim(
            pieces,
            made_with,
            "choose another output, or replace it with --overwrite",
        )
        others = [] if output.suffix else _find_others(pieces, files)
        if others and not overwrite:
            raise ValueError(
                f"{output} also holds the embeddings of {_list(others)}: "
                "choose another output, or delete these with --overwrite."
            )
        for name in others:
            _piece(pieces, name).unlink()
        sounds = _find_embedded(pieces, files)
        changed = [name for name, sound in sounds.items() if not sound]
        if changed and not output.suffix and not overwrite:
            raise ValueError(
                f"{output} holds embeddings of other sounds of the same names "
                f"({_list(changed)}): choose another output, or replace them "
                "with --overwrite."
            )
        for name in changed:
            _piece(pieces, name).unlink()
            del sounds[name]
        before = len(sounds)
        unreadable = _embed_missing(encoder, files, sounds, pieces, timestamps)
        computed = len(sounds) - before
        embedded = {name: sounds[name] for name, _ in files if name in sounds}
        doubtful = {
            name: found
            for name in embedded
            if (found := str(_read(pieces, name, "doubtful")))
        }
        contents = _Contents(made_with, embedded, doubtful, unreadable)
        if output.suffix:
            gather = _gather_npz if output.suffix == ".npz" else _gather_parquet
            gather(output, pieces, contents, encoder.embedding_model.dim)
            shutil.rmtree(pieces)
    return _report(contents, files, computed)


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


class _Contents(NamedTuple):
    """What is in an output, by the names of the sounds."""

    made_with: dict[str, Any]
    sounds: dict[str, str]  # checksums
    doubtful: dict[str, str]  # and why
    unreadable: dict[str, list[str]]  # checksums, and why; not in the output

    def metadata(self) -> str:
        """Write what no column holds."""
        return json.dumps({**self.made_with, "unreadable": self.unreadable})


def _report(
    contents: _Contents, files: Sequence[tuple[str, Path]], computed: int
) -> EmbeddingReport:
    """Tell a user what is in an output."""
    unreadable = {
        str(path): contents.unreadable[name][1]
        for name, path in files
        if name in contents.unreadable
    }
    return EmbeddingReport(
        len(contents.sounds), unreadable, contents.doubtful, computed
    )


def _read_finished(output: Path) -> _Contents:
    """Read which sounds are in an output and what it was made with."""
    try:
        if output.suffix == ".npz":
            with np.load(output) as arrays:
                metadata = json.loads(str(arrays[METADATA]))
                columns = [
                    arrays[key].tolist()
                    for key in ("names", "sha256", "doubtful")
                ]
        else:
            pyarrow, parquet = _import_pyarrow()
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
    names, sounds, doubtful = columns
    return _Contents(
        metadata,
        dict(zip(names, sounds)),
        {name: found for name, found in zip(names, doubtful) if found},
        unreadable,
    )


def _compare_finished(
    finished: _Contents, made_with: Mapping, files: Sequence[tuple[str, Path]]
) -> str:
    """Say how an output differs from one that would be made; "" if not."""
    if different := compare(finished.made_with, made_with):
        return f"was made with {different}"
    before = {
        **finished.sounds,
        **{name: sound for name, (sound, _) in finished.unreadable.items()},
    }
    names = {name for name, _ in files}
    different = [
        f"{kind} {_list(some)}"
        for kind, some in (
            ("without", sorted(names - set(before))),
            ("with", sorted(set(finished.sounds) - names)),
        )
        if some
    ]
    if not different:
        changed = [
            name for name, path in files if before[name] != _hash_readable(path)
        ]
        if changed:
            different = [f"with another content of {_list(changed)}"]
    if different:
        return f"was made of other sounds, {' and '.join(different)}"
    return ""


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


def _find_others(pieces: Path, files: Sequence[tuple[str, Path]]) -> list[str]:
    """List the sounds that are embedded and not among the files."""
    names = {name for name, _ in files}
    found = (
        piece.relative_to(pieces).as_posix().removesuffix(".npz")
        for piece in pieces.rglob("*.npz")
    )
    return sorted(name for name in found if name not in names)


def _find_embedded(
    pieces: Path, files: Sequence[tuple[str, Path]]
) -> dict[str, str]:
    """Find the checksums of sounds that are embedded; "" for changed ones."""
    sounds = {}
    for name, path in files:
        try:
            before = str(_read(pieces, name, "sha256"))
        # none is there or can be there, or a disk has damaged it
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            continue
        sounds[name] = before if before == _hash_readable(path) else ""
    return sounds


def _clear(pieces: Path, made_with: Mapping) -> None:
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
    files: Sequence[tuple[str, Path]],
    sounds: dict[str, str],
    pieces: Path,
    timestamps: bool,
) -> dict[str, list[str]]:
    """Embed what is not among the sounds; add it, and give what is unreadable.

    For each unreadable file its checksum, and why.
    """
    unreadable = {}
    for name, path in tqdm(files, desc="embed", unit=" files"):
        if name in sounds:
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
            unreadable[name] = [sound, reason]
            continue
        piece.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(piece) as aside, open(aside, "wb") as file:
            np.savez(file, sha256=np.array(sound), **arrays)
        sounds[name] = sound
    return unreadable


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
    return {
        "embeddings": torch.cat(tokens).numpy(force=True),
        "times": torch.cat(times).numpy(),
        **arrays,
    }


def _gather_npz(
    output: Path, pieces: Path, contents: _Contents, dim: int
) -> None:
    """Write one .npz; tokens of all files lie one behind the other."""
    sounds, doubtful = contents.sounds, contents.doubtful
    texts = {
        "names": list(sounds),
        "sha256": list(sounds.values()),
        "doubtful": [doubtful.get(name, "") for name in sounds],
    }
    with (
        atomic_file(output) as aside,
        zipfile.ZipFile(aside, "w") as archive,
    ):
        text = np.array(contents.metadata())
        _write_array(archive, METADATA, text.dtype, (), [text])
        for key, values in texts.items():
            longest = max(map(len, values), default=0)
            kind = np.dtype((np.str_, max(longest, 1)))
            blocks = (np.array(value, kind) for value in values)
            _write_array(archive, key, kind, (len(values),), blocks)
        total = len(sounds)
        if contents.made_with["timestamps"]:
            counts = [len(_read(pieces, name, "times")) for name in sounds]
            total = sum(counts)
            counts = np.array(counts, dtype=np.int64)
            _write_array(
                archive, "num_tokens", counts.dtype, counts.shape, [counts]
            )
            times = (_read(pieces, name, "times") for name in sounds)
            _write_array(archive, "times", np.dtype("<f8"), (total,), times)
        rows = (_read(pieces, name, "embeddings") for name in sounds)
        kind = np.dtype("<f4")
        _write_array(archive, "embeddings", kind, (total, dim), rows)


def _write_array(
    archive: zipfile.ZipFile,
    key: str,
    kind: np.dtype,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
) -> None:
    """Write an array of an .npz block by block."""
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": shape,
    }
    with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, kind).tobytes())


def _gather_parquet(
    output: Path, pieces: Path, contents: _Contents, dim: int
) -> None:
    """Write one .parquet with a row for each file."""
    pyarrow, parquet = _import_pyarrow()
    sounds, doubtful = contents.sounds, contents.doubtful
    vector = pyarrow.list_(pyarrow.float32(), dim)
    text = pyarrow.string()
    columns = {"name": text, "sha256": text, "doubtful": text}
    if contents.made_with["timestamps"]:
        columns |= {
            "embeddings": pyarrow.list_(vector),
            "times": pyarrow.list_(pyarrow.float64()),
        }
    else:
        columns["embeddings"] = vector
    schema = pyarrow.schema(
        columns.items(), metadata={METADATA: contents.metadata()}
    )
    with (
        atomic_file(output) as aside,
        parquet.ParquetWriter(aside, schema) as writer,
    ):
        for names in _group(pieces, sounds, GROUP_VALUES):
            table = {
                "name": names,
                "sha256": [sounds[name] for name in names],
                "doubtful": [doubtful.get(name, "") for name in names],
            }
            rows = [_read(pieces, name, "embeddings") for name in names]
            flat = np.concatenate(rows, axis=None).astype(np.float32)
            vectors = pyarrow.FixedSizeListArray.from_arrays(flat, dim)
            table["embeddings"] = vectors
            if contents.made_with["timestamps"]:
                ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
                times = [_read(pieces, name, "times") for name in names]
                table["times"] = pyarrow.ListArray.from_arrays(
                    ends, np.concatenate(times)
                )
                table["embeddings"] = pyarrow.ListArray.from_arrays(
                    ends, vectors
                )
            writer.write_table(pyarrow.table(table, schema))


def _group(
    pieces: Path, names: Iterable[str], most: int
) -> Iterator[list[str]]:
    """Divide names into groups of about so many values."""
    group, values = [], 0
    for name in names:
        group.append(name)
        values += _read(pieces, name, "embeddings").size
        if values >= most:
            yield group
            group, values = [], 0
    if group:
        yield group


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
