"""SpeechBrain's manifests: csv and json files that list audio files.

As in ``speechbrain.dataio.dataio``: ``$data_root`` (csv) or ``{data_root}``
(json) stands for a folder, and start and stop count the samples of the file;
equal ones mean "to the end".

Authors
 * The speechbrain_wavjepa developers 2026
"""

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from speechbrain_wavjepa.data.names import Segment, Shard
from speechbrain_wavjepa.data.urls import is_remote
from speechbrain_wavjepa.processing.audio import MIN_RATE

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
