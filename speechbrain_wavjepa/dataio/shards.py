"""Where clips lie: from a setting to the list of its shards.

A shard is a tar file, a parquet file, a single audio file or a segment of
one; it lies on a disk, behind an http(s) url, or in a dataset repository of
the Hugging Face hub. How a shard is read is the matter of ``members.py``.

Authors
 * The speechbrain_wavjepa developers 2026

Shards, and what they are called.

Authors
 * The speechbrain_wavjepa developers 2026

Files opened to be read forward: local paths, http(s) and hub urls.

Nothing is ever run as a command: any other scheme is refused.

Authors
 * The speechbrain_wavjepa developers 2026

SpeechBrain's manifests: csv and json files that list audio files.

As in ``speechbrain.dataio.dataio``: ``$data_root`` (csv) or ``{data_root}``
(json) stands for a folder, and start and stop count the samples of the file;
equal ones mean "to the end".

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
import errno
import functools
import glob
import http.client
import itertools
import json
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


class Segment(NamedTuple):
    """A part of an audio file, as SpeechBrain's manifests name it.

    Arguments
    ---------
    path : str
        The audio file.
    start : int
        Its first sample, at the rate of the file.
    stop : int, optional
        The sample behind its last one; None for the end of the file.

    Example
    -------
    >>> Segment("a.wav", 8000).stop is None
    True
    """

    path: str
    start: int = 0
    stop: Optional[int] = None


Shard = Union[str, Segment]


def shard_path(shard: Shard) -> str:
    """Give the path or url of a shard.

    Arguments
    ---------
    shard : str or Segment
        A shard.

    Returns
    -------
    str
        Its path or url.

    Example
    -------
    >>> shard_path(Segment("a.wav", 0, 8000))
    'a.wav'
    """
    return shard.path if isinstance(shard, Segment) else shard


def shard_name(shard: Shard) -> str:
    """Name a shard; two segments of a file have different names.

    Arguments
    ---------
    shard : str or Segment
        A shard.

    Returns
    -------
    str
        Its path or url, with the samples of a segment.

    Example
    -------
    >>> shard_name(Segment("a.wav", 0, 8000))
    'a.wav[0:8000]'
    """
    if isinstance(shard, str):
        return shard
    stop = "" if shard.stop is None else shard.stop
    return f"{shard.path}[{shard.start}:{stop}]"


def shard_place(shard: Shard) -> tuple:
    """Tell which data a shard is, however its path is spelled.

    Arguments
    ---------
    shard : str or Segment
        A shard.

    Returns
    -------
    tuple
        Equal for two spellings of the same shard.

    Example
    -------
    >>> shard_place("clips/../clips/0.wav") == shard_place("./clips/0.wav")
    True
    """
    path, *samples = Segment(shard) if isinstance(shard, str) else shard
    if not is_remote(path):
        folder, name = os.path.split(path)
        path = os.path.join(_real_path(folder), name)
    return path, *samples


@functools.lru_cache(4096)
def _real_path(folder: str) -> str:
    """Resolve the links of a folder, once for all its files."""
    return os.path.realpath(folder)


def printable(name: str) -> str:
    """Write a name on one line that every terminal and log can take.

    Arguments
    ---------
    name : str
        A name; it may hold line breaks, or bytes that are no UTF-8.

    Returns
    -------
    str
        The name with those escaped.

    Example
    -------
    >>> print(printable("line\\nbreak.wav"))
    line\\nbreak.wav
    """
    return name if name.isprintable() else repr(name)[1:-1]


logger = logging.getLogger(__name__)

HTTP_TIMEOUT = 60.0  # seconds without a byte before a connection counts lost
HTTP_TRIES = 8
HTTP_PAUSE = 1.0  # seconds before the second try, doubled for each further
PIECE = 2**20  # bytes asked for at once
LONGEST_PAUSE = 120.0  # seconds that a server may ask for
BUSY = (408, 425, 429)  # of the refusals, those that pass


def is_remote(path: str) -> bool:
    """Tell a url from a path on this machine's disks.

    Arguments
    ---------
    path : str
        A path or url.

    Returns
    -------
    bool
        True for a url.

    Raises
    ------
    ValueError
        If it is neither a path nor an http(s) or hub url.

    Example
    -------
    >>> is_remote("hf://datasets/someone/clips/0.parquet"), is_remote("a.tar")
    (True, False)
    >>> is_remote("pipe:cat a.tar")
    Traceback (most recent call last):
        ...
    ValueError: Cannot read 'pipe:cat a.tar': shards are local paths, http...
    """
    if path.startswith(("http://", "https://", "hf://")):
        return True
    if path.startswith("pipe:") or "://" in path:
        raise ValueError(
            f"Cannot read {path!r}: shards are local paths, http(s):// or "
            "hf:// urls; commands and other schemes are refused."
        )
    return False


def open_url(path: str) -> BinaryIO:
    """Open a local file, an http(s) url or a hub url for reading.

    Arguments
    ---------
    path : str
        A path, ``http(s)://...`` or ``hf://datasets/...``.

    Returns
    -------
    file
        With ``read`` and ``close``, to be used in a ``with`` statement. Local
        and hub files can also ``seek``.

    Raises
    ------
    ValueError
        If the scheme is another one, or an http server refuses the url.
    OSError
        If a local file cannot be opened, or a server does not answer.

    Example
    -------
    >>> path = getfixture("tmp_path") / "shard.tar"
    >>> _ = path.write_bytes(b"abc")
    >>> with open_url(str(path)) as file:
    ...     file.read(2)
    b'ab'
    """
    if not is_remote(path):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe, no file", path)
        return open(path, "rb")
    if path.startswith("hf://"):
        return hub_files().open(path, "rb")
    return HttpFile(path)


def hub_files():
    """Give the hub's file system, imported late because that is slow.

    Returns
    -------
    huggingface_hub.HfFileSystem
        It opens and lists ``hf://`` urls.

    Example
    -------
    >>> callable(hub_files().glob)
    True
    """
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


class HttpFile:
    """A url read forward; where a connection breaks, it is taken up again.

    Arguments
    ---------
    url : str
        The http(s) url.

    Raises
    ------
    ValueError
        If the server refuses the url (status 400 to 499).
    ConnectionError
        If nothing comes after several tries.

    Example
    -------
    >>> import functools, threading
    >>> from http.server import HTTPServer, SimpleHTTPRequestHandler
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "0.tar").write_bytes(b"abc")
    >>> serve = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    >>> with HTTPServer(("127.0.0.1", 0), serve) as server:
    ...     threading.Thread(target=server.handle_request).start()
    ...     with HttpFile(f"http://127.0.0.1:{server.server_port}/0.tar") as f:
    ...         f.read(2)
    b'ab'
    """

    def __init__(self, url: str):
        self.url = url
        self.position = 0
        self._response = None
        self._end: Optional[int] = None
        self.read(0)

    def __enter__(self) -> "HttpFile":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def seekable(self) -> bool:
        """Say that this file is read forward only."""
        return False

    def read(self, size: int = -1) -> bytes:
        """Read that many bytes, fewer only at the end of the file."""
        pieces, missing, failures = [], size, 0
        while True:
            pause = HTTP_PAUSE * 2**failures
            try:
                if self._response is None:
                    self._connect()
                wanted = PIECE if size < 0 else min(missing, PIECE)
                piece = self._response.read(wanted)
                pieces.append(piece)
                self.position += len(piece)
                missing -= len(piece)
                at_end = self._end is None and not piece
                if missing == 0 or at_end or self.position == self._end:
                    return b"".join(pieces)
                if piece:
                    failures = 0
                    continue
                reason = f"closed at byte {self.position} of {self._end}"
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
                pause = max(pause, _asked_pause(error))
            self.close()
            failures += 1
            if failures == HTTP_TRIES:
                break
            logger.warning(f"{self.url}: {reason}; asked again in {pause:g} s.")
            time.sleep(pause)
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
            skipped = len(response.read(min(self.position - start, 1 << 20)))
            if not skipped:
                raise ConnectionError(f"closed again at byte {start}")
            start += skipped
        self._response = response


def _asked_pause(error: Exception) -> float:
    """Give the seconds that a busy server asks for, 0 if none or too many."""
    headers = getattr(error, "headers", None)
    asked = headers.get("Retry-After", "") if headers else ""
    pause = float(asked) if asked.isdecimal() else 0.0
    return pause if pause <= LONGEST_PAUSE else 0.0


MAX_BYTES = 512 * 1024**2  # some million clips
VARIABLES = {".csv": re.compile(r"\$([\w.]+)"), ".json": re.compile(r"{(\w+)}")}


def read_clip_list(path: Path, data_root: Optional[str] = None) -> list[Shard]:
    """Read a manifest; relative paths start at its folder.

    Arguments
    ---------
    path : Path
        A csv file with the column ``wav``, and optionally ``start`` and
        ``stop``; or a json file that gives ``wav`` of each clip, a path or
        {"file": path, "start": 0, "stop": 16000}.
    data_root : str, optional
        What ``$data_root`` stands for; by default the manifest's folder.

    Returns
    -------
    list of str or Segment
        The clips in the order of the manifest.

    Raises
    ------
    ValueError
        If it is no such manifest, or a row of it cannot be used.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train.csv"
    >>> _ = path.write_text("ID,wav,start,stop\\na,$data_root/a.wav,0,800\\n")
    >>> read_clip_list(path, "/data")
    [Segment(path='/data/a.wav', start=0, stop=800)]
    """
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path} is no manifest: a regular file of at most "
            f"{MAX_BYTES // 1024**2} MiB is needed."
        )
    read = _read_csv if path.suffix.lower() == ".csv" else _read_json
    try:
        rows = list(read(path))
    except (UnicodeDecodeError, csv.Error, RecursionError) as error:
        raise ValueError(f"{path} is no manifest: {error}.") from error
    if not rows:
        raise ValueError(f"{path} lists 0 clips: make the manifest again.")
    root = str(path.parent) if data_root is None else str(data_root)
    return [_read_row(path, root, *row) for row in rows]


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the place and the columns of each row."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        if "wav" not in columns:
            raise ValueError(
                f"{path} has no column 'wav' (its columns: {columns}): a "
                "manifest needs the header ID,duration,wav."
            )
        for row in reader:
            place = f"line {reader.line_num}"
            yield place, row


def _read_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the key and the columns of each clip."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no manifest: {error}.") from error
    if not isinstance(content, dict):
        content = {"": None}
    for key, row in content.items():
        wav = row.get("wav") if isinstance(row, dict) else None
        if isinstance(wav, dict):
            row = {**row, **wav, "wav": wav.get("file")}
        elif not isinstance(wav, str):
            raise ValueError(
                f"{path} has no 'wav' for the clip {key!r}: a manifest needs "
                '{ID: {"wav": path}} or {ID: {"wav": {"file": path, "start": '
                '0, "stop": 16000}}}.'
            )
        yield f"clip {key!r}", row


def _read_row(path: Path, root: str, place: str, row: dict[str, Any]) -> Shard:
    """Make a shard of a row of a manifest."""
    wav = row["wav"]
    if not wav or not isinstance(wav, str):
        raise ValueError(
            f"{path}, {place}: a clip without a path in 'wav'. Make the "
            "manifest again."
        )

    def replace(match: re.Match) -> str:
        if match[1] != "data_root":
            raise ValueError(
                f"{path}, {place}: {wav!r} needs a value for {match[0]}, and "
                "only data_root has one."
            )
        return root

    wav = VARIABLES[path.suffix.lower()].sub(replace, wav)
    if not is_remote(wav):
        wav = os.path.join(path.parent, wav)
    start, stop = (
        _read_sample(path, place, name, row.get(name))
        for name in ("start", "stop")
    )
    if stop is not None and stop < (start or 0):
        raise ValueError(
            f"{path}, {place}: stop={stop} lies before start={start}. Leave "
            "stop out to read to the end."
        )
    if start is None and stop is None:
        return wav
    _check_unit(path, place, row.get("duration"), (stop or 0) - (start or 0))
    start = start or 0
    return Segment(wav, start, None if stop == start else stop)


def _read_sample(
    path: Path, place: str, name: str, value: Any
) -> Optional[int]:
    """Read a number of samples; None where there is none."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
        if number < 0 or number != int(number):
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}, {place}: {name}={value!r} is no number of samples, as "
            "SpeechBrain counts them."
        ) from error
    return int(number)


def _check_unit(
    path: Path, place: str, duration: Any, num_samples: int
) -> None:
    """Refuse seconds where samples belong, if the duration shows them."""
    try:
        rate = num_samples / float(duration)
    except (TypeError, ValueError, ZeroDivisionError):
        return  # no duration to compare with
    if 0 < rate < MIN_RATE:
        raise ValueError(
            f"{path}, {place}: {num_samples} samples cannot last {duration} s. "
            "Give start and stop in samples, not in seconds."
        )


AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".mp3")
PACKED_SUFFIXES = (".tar", ".parquet")
MANIFEST_SUFFIXES = (".csv", ".json")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_shards(
    spec: Union[str, list[str]], data_root: Optional[str] = None
) -> list[Shard]:
    """List the shards that a setting names.

    Arguments
    ---------
    spec : str or list of str
        One or several of: a file or url, a brace range of them such as
        ``shard-{000000..000869}.tar``, a glob pattern (disk and hub), a
        folder (its tar files, else its parquet files, else every audio file
        below it), a SpeechBrain manifest (csv with a column ``wav``, json).
    data_root : str, optional
        What ``$data_root`` stands for in manifests; by default the
        manifest's folder.

    Returns
    -------
    list of str or Segment
        The shards, in the order of the setting; sorted within a folder or
        pattern.

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
    spec: Union[str, list[str]], data_root: Optional[str] = None
) -> list[tuple[Shard, str]]:
    """List the shards of a setting with names that survive a move.

    Arguments
    ---------
    spec : str or list of str
        As of ``expand_shards``.
    data_root : str, optional
        As of ``expand_shards``.

    Returns
    -------
    list of (str or Segment, str)
        Each shard, and the name of its file below the folder, manifest or
        pattern; segments of a file share it.

    Raises
    ------
    ValueError
        As of ``expand_shards``.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "0.wav").touch()
    >>> name_shards(str(folder))[0][1]
    '0.wav'
    """
    patterns = [spec] if isinstance(spec, (str, Path)) else list(spec)
    named = []
    for pattern in map(str, patterns):
        paths = [pattern] if _is_there(pattern) else _expand_braces(pattern)
        _check_present(pattern, paths)
        for path in paths:
            root = _find_root(path)
            for shard in _expand_path(path, data_root):
                name = shard_path(shard).removeprefix(root).lstrip("/")
                named.append((shard, name))
    check_shards([shard for shard, _ in named])
    return named


def check_shards(shards: list[Shard]) -> None:
    """Refuse shards that are named twice or of an unknown kind.

    Arguments
    ---------
    shards : list of str or Segment
        Shards; none of them is opened.

    Raises
    ------
    ValueError
        If there is such a shard, or none at all.

    Example
    -------
    >>> check_shards(["0.tar", "1.tar"])
    """
    if not shards:
        raise ValueError("The list of shards is empty.")
    seen = set()
    for shard in shards:
        place = shard_place(shard)
        if place in seen:
            raise ValueError(
                f"{shard_name(shard)} is named twice: no clip may be seen "
                "twice in a pass, so name each shard or file once."
            )
        seen.add(place)
        kinds = AUDIO_SUFFIXES
        if isinstance(shard, str):
            kinds = PACKED_SUFFIXES + kinds
        if suffix_of(shard_path(shard)) not in kinds:
            raise ValueError(
                f"{shard_name(shard)} is of no kind that can be read: give "
                f"{', '.join(kinds)} files (unpack compressed tars first)."
            )


def suffix_of(path: str) -> str:
    """Give the lower-case suffix of a path or url, its query left out.

    Arguments
    ---------
    path : str
        A path or url.

    Returns
    -------
    str
        The suffix with its dot, empty if there is none.

    Example
    -------
    >>> suffix_of("https://example.org/a/B.TAR?download=true")
    '.tar'
    """
    if is_remote(path):
        path = urllib.parse.urlsplit(path).path
    return os.path.splitext(path)[1].lower()


def is_clip_name(name: str) -> bool:
    """Say whether a file of this name is read as a clip.

    Arguments
    ---------
    name : str
        The name of a file or of a member of a shard.

    Returns
    -------
    bool
        True for the audio suffixes, False for everything else and for the
        shadow files ("._name") that some systems leave beside a file.

    Example
    -------
    >>> is_clip_name("a/0.FLAC"), is_clip_name("0.pkl"), is_clip_name("._0.wav")
    (True, False, False)
    """
    suffix = os.path.splitext(name)[1].lower()
    is_shadow = os.path.basename(name).startswith("._")
    return suffix in AUDIO_SUFFIXES and not is_shadow


def find_clips(folder: Union[str, Path]) -> list[str]:
    """List the audio files of a folder and of all folders below it.

    Linked folders are followed, each folder once, so a circle of links ends.

    Arguments
    ---------
    folder : str or Path
        The folder.

    Returns
    -------
    list of str
        The paths of everything with the name of a clip that is no folder,
        sorted.

    Raises
    ------
    OSError
        If a folder cannot be listed.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "0.wav").touch()
    >>> [path[-5:] for path in find_clips(folder)]
    ['0.wav']
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


def _find_root(path: str) -> str:
    """Give the folder below which the shards of a path are named."""
    if is_remote(path):
        path = urllib.parse.urlsplit(path)._replace(query="").geturl()
    elif os.path.isdir(path):
        return path
    while path and glob.has_magic(path) and not _is_there(path):
        path = os.path.dirname(path)
        if not glob.has_magic(path):
            return path
    return os.path.dirname(path)


def _expand_braces(pattern: str) -> list[str]:
    """Write out every {000..123}, keeping the zeros in front."""
    parts = BRACES.split(pattern)
    texts, firsts, lasts = parts[0::3], parts[1::3], parts[2::3]
    ranges = []
    for first, last in zip(firsts, lasts, strict=True):
        if int(first) > int(last):
            raise ValueError(
                f"{{{first}..{last}}} in {pattern!r} counts down: write the "
                "smaller number first."
            )
        numbers = range(int(first), int(last) + 1)
        ranges.append([f"{number:0{len(first)}d}" for number in numbers])
    return [
        "".join(itertools.chain(*zip(texts, [*numbers, ""], strict=True)))
        for numbers in itertools.product(*ranges)
    ]


def _check_present(pattern: str, paths: list[str]) -> None:
    """Stop at once if a named local file or folder does not exist."""
    missing = [
        path
        for path in paths
        if not is_remote(path)
        and not glob.has_magic(path)
        and not os.path.exists(path)
    ]
    if missing:
        raise ValueError(
            f"{pattern!r} names {len(missing)} of {len(paths)} files or "
            f"folders that do not exist, first {missing[0]}: check the path "
            "in the yaml, or narrow the range to what is there."
        )


def _expand_path(path: str, data_root: Optional[str]) -> list[Shard]:
    """List the shards of one path, url or glob pattern."""
    if is_remote(path) and not path.startswith("hf://"):
        return [path]
    if glob.has_magic(path) and not _is_there(path):
        if is_remote(path):
            found = [f"hf://{name}" for name in hub_files().glob(path)]
        else:
            found = glob.glob(path, recursive=True)
        if not found:
            raise ValueError(
                f"No file matches {path!r}: check the pattern in the yaml."
            )
        return sorted(found)
    if is_remote(path):
        return [path]
    if os.path.isdir(path):
        return _expand_folder(path)
    if suffix_of(path) in MANIFEST_SUFFIXES:
        return read_clip_list(Path(path), data_root)
    return [path]


def _expand_folder(folder: str) -> list[str]:
    """List a folder's tar files, else its parquet files, else its clips."""
    names = sorted(os.listdir(folder))
    for suffix in PACKED_SUFFIXES:
        found = [name for name in names if Path(name).suffix.lower() == suffix]
        if found:
            return [os.path.join(folder, name) for name in found]
    found = find_clips(folder)
    if not found:
        raise ValueError(
            f"The folder {folder} holds no .tar, no .parquet and below it no "
            f"{', '.join(AUDIO_SUFFIXES)} file: check the path in the yaml."
        )
    return found
