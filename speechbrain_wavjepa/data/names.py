"""Shards, and what they are called.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import NamedTuple, Optional, Union


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
