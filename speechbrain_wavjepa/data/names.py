"""Shards, and what they are called.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import functools
import os
from typing import NamedTuple, Optional, Union

from speechbrain_wavjepa.data.urls import is_remote


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
