"""Where clips lie: from a setting to shards, and from a shard to its bytes.

A shard is a tar file, a parquet file, an audio file or a segment of one, on
a disk or behind a url. Nothing is ever run as a command: only the schemes
below are opened. Manifests are SpeechBrain's: ``$data_root`` (csv) or
``{data_root}`` (json) stands for a folder; start and stop count the samples
of the file, and equal ones mean "to the end".

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import csv
import errno
import functools
import glob
import http.client
import io
import logging
import os
import re
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Optional, Union

from speechbrain_wavjepa.processing.audio import MIN_RATE
from speechbrain_wavjepa.utils.tables import parse_json, read_text

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
PACKED_SUFFIXES = (".tar", ".parquet")
MAX_MANIFEST = 512 * 1024**2  # bytes: some million clips
VARIABLES = {".csv": re.compile(r"\$([\w.]+)"), ".json": re.compile(r"{(\w+)}")}
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
WEB = ("http", "https")
STORES = ("hf", "s3", "gs")  # opened by fsspec with what is installed
HTTP_TIMEOUT = 60.0  # seconds without a byte before a connection counts lost
HTTP_TRIES = 8
HTTP_PAUSE = 1.0  # seconds before the second try, doubled for each further
LONGEST_PAUSE = 120.0  # seconds that a server may ask for
BUSY = (408, 425, 429)  # of the refusals, those that pass
PIECE = 2**20  # bytes asked for at once
real_path = functools.lru_cache(4096)(os.path.realpath)  # of a folder, once


class Segment(NamedTuple):
    """A part of an audio file; start and stop are samples at its rate."""

    path: str
    start: int = 0
    stop: Optional[int] = None  # None for the end of the file


Shard = Union[str, Segment]
Spec = Union[str, list[str]]  # what expand_shards understands


def shard_path(shard: Shard) -> str:
    """Give the path or url of a shard."""
    return shard.path if isinstance(shard, Segment) else shard


def shard_name(shard: Shard) -> str:
    """Name a shard; two segments of a file have different names."""
    if isinstance(shard, str):
        return shard
    stop = "" if shard.stop is None else shard.stop
    return f"{shard.path}[{shard.start}:{stop}]"


def shard_place(shard: Shard) -> tuple:
    """Tell which data a shard is, however its path is spelled."""
    path, *samples = Segment(shard) if isinstance(shard, str) else shard
    if not is_remote(path):
        folder, name = os.path.split(path)
        path = os.path.join(real_path(folder), name)
    return path, *samples


def printable(name: str) -> str:
    """Escape what terminals and logs cannot take in one line."""
    return name if name.isprintable() else repr(name)[1:-1]


def suffix_of(path: str) -> str:
    """Give the lower-case suffix of a path or url, its query left out."""
    if is_remote(path):
        path = urllib.parse.urlsplit(path).path
    return os.path.splitext(path)[1].lower()


def is_clip_name(name: str) -> bool:
    """Say whether a file is read as a clip; macOS leaves "._name" files."""
    suffix = os.path.splitext(name)[1].lower()
    is_shadow = os.path.basename(name).startswith("._")
    return suffix in AUDIO_SUFFIXES and not is_shadow


def is_remote(path: str) -> bool:
    """Tell a url from a local path; refuse schemes that are not opened."""
    scheme, separator, _ = path.partition("://")
    if separator and scheme in WEB + STORES:
        return True
    if separator or path.startswith("pipe:"):
        raise ValueError(
            f"Cannot read {path!r}: it is no path and no http(s), hf, s3 or gs "
            "url; commands and other schemes are refused."
        )
    return False


def open_url(path: str) -> BinaryIO:
    """Open a local file or a url for reading; http(s) reads forward only."""
    if not is_remote(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return open(path, "rb")
    if path.partition("://")[0] in WEB:
        return io.BufferedReader(_HttpFile(path), PIECE)
    return open_store(path).open(path, "rb")


def open_store(url: str):
    """Give fsspec's file system for a url of a hub or an object store."""
    import fsspec  # slow, and most data lies on disks

    try:
        return fsspec.filesystem(url.partition("://")[0])
    except ImportError as error:  # it names the package to install
        raise ValueError(f"Cannot read {url}: {error}.") from error


class _HttpFile(io.RawIOBase):
    """A url read forward; where a connection breaks, it is taken up again.

    fsspec's reader needs aiohttp, and does not wait for a busy server.
    """

    def __init__(self, url: str):
        self.url, self.position = url, 0
        self._end = self._response = None
        self.readinto(bytearray())  # a refused url is told at once

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Read up to a buffer; ValueError if refused, OSError if away."""
        reason, pause = "", HTTP_PAUSE
        for number in range(HTTP_TRIES):
            if number:
                logger.warning(f"{self.url}: {reason}; pause of {pause:g} s.")
                time.sleep(pause)
            pause = HTTP_PAUSE * 2**number
            try:
                if self._response is None:
                    self._connect()
                count = self._response.readinto(buffer)
                self.position += count
                if count or not buffer or self._end in (None, self.position):
                    return count
                reason = f"closed at byte {self.position} of {self._end}"
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
                asked = str(getattr(error, "headers", {}).get("Retry-After"))
                if asked.isdecimal() and float(asked) <= LONGEST_PAUSE:
                    pause = max(pause, float(asked))
            self._response = None
        raise ConnectionError(
            f"{self.url}: gave up after {HTTP_TRIES} tries ({reason}). The "
            "last checkpoint can be resumed when the server is back."
        )

    def _connect(self) -> None:
        """Ask for the rest of the file."""
        request = urllib.request.Request(self.url)
        if self.position:
            request.add_header("Range", f"bytes={self.position}-")
        try:
            response = urllib.request.urlopen(request, timeout=HTTP_TIMEOUT)
        except urllib.error.HTTPError as error:
            if 400 <= error.code < 500 and error.code not in BUSY:
                raise ValueError(
                    f"{self.url}: the server answers {error.code} "
                    f"{error.reason}; check the url."
                ) from error
            raise
        length = response.headers.get("Content-Length")
        start = self.position if response.status == 206 else 0
        self._end = None if length is None else start + int(length)
        while start < self.position:  # a server that knows no ranges
            skipped = len(response.read(min(self.position - start, PIECE)))
            if not skipped:
                raise ConnectionError(f"closed again at byte {start}")
            start += skipped
        self._response = response


def expand_shards(spec: Spec, data_root: Optional[str] = None) -> list[Shard]:
    """List the shards that a setting names.

    Arguments
    ---------
    spec : str or list of str
        One or several of: a file or url, a brace range of them such as
        ``shard-{000000..000869}.tar``, a glob pattern (disk, hub and object
        store), a folder (its tar files, else its parquet files, else every
        audio file below it), a SpeechBrain manifest (csv with a column
        ``wav``, or json).
    data_root : str, optional
        What ``$data_root`` in manifests stands for (default: their folder).

    Returns
    -------
    list of str or Segment
        The shards in the setting's order, sorted within folders and patterns.

    Raises
    ------
    ValueError
        If something named is missing, of an unknown kind, or named twice.

    Example
    -------
    >>> expand_shards("https://example.org/clips-{08..10}.tar")[-1]
    'https://example.org/clips-10.tar'
    """
    return [shard for shard, _ in name_shards(spec, data_root)]


def name_shards(
    spec: Spec, data_root: Optional[str] = None
) -> list[tuple[Shard, str]]:
    """List each shard and its file's name, which a move of all data keeps."""
    named = []
    for pattern in map(str, [spec] if isinstance(spec, (str, Path)) else spec):
        paths = [pattern] if _is_there(pattern) else _expand_braces(pattern)
        local = [p for p in paths if not (is_remote(p) or glob.has_magic(p))]
        if missing := [p for p in local if not os.path.exists(p)]:
            raise ValueError(
                f"{pattern!r} names {len(missing)} of {len(paths)} files or "
                f"folders that do not exist, first {missing[0]}."
            )
        for path in paths:
            shards, root = _expand_path(path, data_root)
            names = (shard_path(s).removeprefix(root) for s in shards)
            named += zip(shards, (name.lstrip("/") for name in names))
    check_shards([shard for shard, _ in named])
    return named


def check_shards(shards: list[Shard]) -> None:
    """Refuse shards named twice or of an unknown kind, and an empty list."""
    if not shards:
        raise ValueError("The list of shards is empty.")
    seen = set()
    for shard in shards:
        place, name = shard_place(shard), shard_name(shard)
        if place in seen:
            raise ValueError(f"{name} is named twice: name each shard once.")
        seen.add(place)
        kinds = PACKED_SUFFIXES if isinstance(shard, str) else ()
        if suffix_of(place[0]) not in kinds + AUDIO_SUFFIXES:
            kinds = ", ".join(kinds + AUDIO_SUFFIXES)
            raise ValueError(
                f"{name} is of no kind that can be read: give {kinds} files "
                "(unpack compressed tars first)."
            )


def find_clips(folder: Union[str, Path]) -> list[str]:
    """List the audio files of a folder and of all folders below it, sorted.

    Linked folders are followed, each folder once, so a circle of links ends.
    """
    found, visited, pending = [], set(), [str(folder)]
    while pending:
        current = pending.pop(0)
        status = os.stat(current)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(current) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                linked = entry.is_symlink()  # is_dir fails on circular ones
                if os.path.isdir(entry.path) if linked else entry.is_dir():
                    pending.append(entry.path)
                elif is_clip_name(entry.name):
                    found.append(entry.path)
    return sorted(found)


def _is_there(path: str) -> bool:
    """Say whether this is the name of something on this machine's disks."""
    return not is_remote(path) and os.path.lexists(path)


def _expand_braces(pattern: str) -> list[str]:
    """Write out every {000..123}, keeping the zeros in front."""
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    first, last = braces.groups()
    if int(first) > int(last):
        raise ValueError(f"{braces[0]} in {pattern!r} counts down.")
    return [
        f"{pattern[: braces.start()]}{number:0{len(first)}d}{rest}"
        for number in range(int(first), int(last) + 1)
        for rest in _expand_braces(pattern[braces.end() :])
    ]


def _expand_path(path: str, data_root: Optional[str]) -> tuple[list, str]:
    """List the shards of a path, and the folder below which they are named."""
    scheme = path.partition("://")[0] if is_remote(path) else ""
    if scheme in WEB:  # a question mark begins a query
        return [path], os.path.dirname(path.partition("?")[0])
    root = os.path.dirname(path)
    if glob.has_magic(path) and not _is_there(path):
        found = [] if scheme else glob.glob(path, recursive=True)
        if scheme:
            found = [f"{scheme}://{n}" for n in open_store(path).glob(path)]
        if not found:
            raise ValueError(f"No file matches {path!r}.")
        while glob.has_magic(root):
            root = os.path.dirname(root)
        return sorted(found), root
    if not scheme and os.path.isdir(path):
        names = [os.path.join(path, name) for name in sorted(os.listdir(path))]
        for suffix in PACKED_SUFFIXES:
            if found := [name for name in names if suffix_of(name) == suffix]:
                return found, path
        if found := find_clips(path):
            return found, path
        raise ValueError(
            f"The folder {path} holds no .tar, no .parquet and below it no "
            f"{', '.join(AUDIO_SUFFIXES)} file."
        )
    if not scheme and suffix_of(path) in VARIABLES:
        return read_clip_list(Path(path), data_root), root
    return [path], root


def read_clip_list(path: Path, data_root: Optional[str] = None) -> list[Shard]:
    """Read a manifest; relative paths start at its folder.

    SpeechBrain's loaders read files of any size and format every column.
    """
    root = str(path.parent if data_root is None else data_root)
    try:
        shards = [_read_row(path, root, *row) for row in _read_rows(path)]
    except csv.Error as error:
        raise ValueError(f"{path} is no manifest: {error}.") from error
    if not shards:
        raise ValueError(f"{path} lists 0 clips: make the manifest again.")
    return shards


def _read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Give the place and the columns of each clip of a manifest."""
    text = read_text(path, MAX_MANIFEST)
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        for row in reader:
            yield f"{path}, line {reader.line_num}", row
        return
    clips = parse_json(text, path)
    for key, row in clips.items() if isinstance(clips, dict) else [("", clips)]:
        wav = row.get("wav") if isinstance(row, dict) else None
        if isinstance(wav, dict):  # {"file": path, "start": 0, "stop": 16000}
            row = {**row, **wav, "wav": wav.get("file")}
        yield f"{path}, clip {key!r}", row


def _read_row(path: Path, root: str, place: str, row: Any) -> Shard:
    """Make a shard of a row of a manifest."""
    wav = row.get("wav") if isinstance(row, dict) else None
    if not wav or not isinstance(wav, str):
        form = 'a column wav (csv) or {ID: {"wav": path}} (json)'
        raise ValueError(f"{place}: no path in 'wav'; give {form}.")
    variables = VARIABLES[path.suffix.lower()]
    for variable in variables.finditer(wav):
        if variable[1] != "data_root":
            raise ValueError(
                f"{place}: only data_root has a value, {variable[0]} has none."
            )
    wav = variables.sub(lambda _: root, wav)
    if not is_remote(wav):
        wav = os.path.join(path.parent, wav)
    start = _read_sample(place, "start", row.get("start"))
    stop = _read_sample(place, "stop", row.get("stop"))
    if start is None and stop is None:
        return wav
    start = start or 0
    if stop in (None, start):
        return Segment(wav, start)
    if stop < start:
        raise ValueError(f"{place}: stop={stop} lies before start={start}.")
    duration = 0.0  # none to compare with
    with contextlib.suppress(TypeError, ValueError):
        duration = float(row.get("duration"))
    if stop - start < MIN_RATE * duration:
        raise ValueError(
            f"{place}: {stop - start} samples cannot last {duration:g} s. Give "
            "start and stop in samples, not in seconds."
        )
    return Segment(wav, start, stop)


def _read_sample(place: str, name: str, value: Any) -> Optional[int]:
    """Read a number of samples; None where there is none."""
    if value is None or value == "":
        return None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if 0 <= float(value) == int(float(value)):
            return int(float(value))
    raise ValueError(f"{place}: {name}={value!r} is no number of samples.")
