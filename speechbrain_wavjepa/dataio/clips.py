"""One clip: from encoded bytes to a waveform of the right rate and level.

The order of the steps follows WavJEPA (https://arxiv.org/abs/2509.23238);
their maths is in ``audio.py``.

Shapes: T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026

Long files, read block by block.

Shapes: T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import io
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechbrain_wavjepa.processing import audio
from speechbrain_wavjepa.utils.tables import check_there

MAX_CHANNELS = 64
MAX_RATE = 768_000
VALUES_AT_ONCE = 2**20  # decoded at once, whatever a header claims
MAX_CLIP_VALUES = 2**28  # of a clip, all channels: 4.6 hours at 16 kHz
UNKNOWN_LENGTH = 2**62  # a stream of unknown length claims more frames
# The filter of audio.resample reaches 64 / 0.9476 periods of the lower rate
# to each side, so that much is read behind the end of a clip.
FILTER_SECONDS = 68 / audio.MIN_RATE
GOLDEN = (math.sqrt(5) - 1) / 2


class Clip(NamedTuple):
    """A decoded clip and where it came from.

    Arguments
    ---------
    waveform : [T, C]
        The clip, not padded.
    key : str
        Its shard and name, "shard::member".
    position : dict
        Where the stream stands after it.

    Example
    -------
    >>> Clip(torch.zeros(10, 1), "0.tar::0.flac", {"seen": 1}).key
    '0.tar::0.flac'
    """

    waveform: Tensor
    key: str
    position: dict


def decode_clip(
    data: Union[bytes, str],
    sample_rate: int = 16000,
    clip_samples: int = 160000,
    channels: int = 1,
    channel_policy: str = "first",
    level_db: float = -14.0,
    start: int = 0,
    stop: Optional[int] = None,
    draw: Optional[tuple[int, int]] = None,
) -> Tensor:
    """Decode a clip's length of a file and bring it to rate and level.

    What is read is bounded by the length of a clip, not by the header, which
    may lie. The channel policy comes before the resampling: both are linear,
    so the result is the same for less work.

    Arguments
    ---------
    data : bytes or str
        A FLAC, WAV, Ogg or MP3 file, or the path of one.
    sample_rate : int
        The wanted rate in Hz.
    clip_samples : int
        Samples of a clip at that rate; of what is longer, a part is taken.
    channels : int
        The wanted channels.
    channel_policy : str
        How several channels become one: "first" or "mean".
    level_db : float
        The wanted level in dB relative to full scale. Silence stays silence.
    start : int
        First sample of the file that may be read, at the file's own rate.
    stop : int, optional
        The sample behind the last one that may be read.
    draw : tuple of int, optional
        A seed and the number of the pass, which choose the part
        (``choose_part``); the first part by default.

    Returns
    -------
    [T, channels]
        The clip, at most clip_samples long, not padded.

    Raises
    ------
    ValueError
        If it cannot be decoded, is empty, holds values that are not finite,
        or claims an absurd rate or number of channels.
    OSError
        If a path cannot be opened.

    Example
    -------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.ones((44100, 2)) / 9, 44100, format="FLAC")
    >>> decode_clip(file.getvalue()).shape
    torch.Size([16000, 1])
    """
    seconds = clip_samples / sample_rate
    waveform, rate = read_waveform(
        data, seconds, FILTER_SECONDS, start, stop, draw
    )  # [T, C]
    waveform = audio.select_channels(waveform, channels, channel_policy)
    waveform = audio.resample(waveform, rate, sample_rate)[:clip_samples]
    # one number tells: not finite if a value is not, or is absurdly large
    if not math.isfinite(torch.linalg.vector_norm(waveform)):
        raise ValueError("it holds values that are not finite or absurd")
    return audio.rms_normalize(waveform, level_db)


def read_waveform(
    data: Union[bytes, str],
    max_seconds: float,
    margin_seconds: float = 0.0,
    start: int = 0,
    stop: Optional[int] = None,
    draw: Optional[tuple[int, int]] = None,
) -> tuple[Tensor, int]:
    """Decode a part of a file.

    Arguments
    ---------
    data : bytes or str
        A FLAC, WAV, Ogg or MP3 file, or the path of one.
    max_seconds : float
        Length of the part. This, not the header, bounds what is allocated.
    margin_seconds : float
        What is read behind it, if there is more.
    start : int
        First sample that may be read.
    stop : int, optional
        The sample behind the last one that may be read.
    draw : tuple of int, optional
        Seed and pass, which choose the part; the first one by default.

    Returns
    -------
    waveform : [T, C] float32
        The waveform as it was encoded.
    rate : int
        Its sample rate in Hz.

    Raises
    ------
    ValueError
        If it cannot be decoded, is empty, ends before its header says, or
        claims an absurd rate or number of channels.
    OSError
        If a path cannot be opened.

    Example
    -------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros((800, 2)), 8000, format="WAV")
    >>> waveform, rate = read_waveform(file.getvalue(), max_seconds=0.05)
    >>> waveform.shape, rate
    (torch.Size([400, 2]), 8000)
    """
    with open_clip(data) as file:
        rate = file.samplerate
        end = file.frames if stop is None else min(stop, file.frames)
        if start > 0 and start >= end:
            raise ValueError(
                f"its segment begins at sample {start}, and it has {end}"
            )
        if draw is not None and end < UNKNOWN_LENGTH:
            start += choose_part(end - start, max_seconds * rate, *draw)
        if start > 0:
            file.seek(start)
        wanted = math.ceil((max_seconds + margin_seconds) * rate)
        pieces = list(read_pieces(file, start, min(wanted, end - start)))
    waveform = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return torch.from_numpy(waveform), rate


def choose_part(length: int, size: float, seed: int, number: int) -> int:
    """Choose where the part of a long file that a pass takes begins.

    The parts lie evenly, the last one at the end. Passes take them in steps
    of about the golden ratio of the file, so few passes already reach all
    regions, and as many passes as there are parts take each once.

    Arguments
    ---------
    length : int
        Samples of the file.
    size : float
        Samples of a part.
    seed : int
        Where the first pass begins, in a way.
    number : int
        Number of the pass.

    Returns
    -------
    int
        The first sample of the part.

    Example
    -------
    >>> sorted(choose_part(1000, 300, 7, number) for number in range(4))
    [0, 233, 466, 700]
    """
    num_parts = math.ceil(length / size)
    if num_parts <= 1:
        return 0
    step = max(round(num_parts * GOLDEN), 1)
    while math.gcd(step, num_parts) > 1:
        step += 1
    part = (seed + number * step) % num_parts
    return int(part * (length - size) / (num_parts - 1))


@contextlib.contextmanager
def open_clip(data: Union[bytes, str]) -> Iterator["ForwardFile"]:
    """Open an encoded clip, and refuse what no clip is.

    Arguments
    ---------
    data : bytes or str
        A FLAC, WAV, Ogg or MP3 file, or the path of one.

    Yields
    ------
    ForwardFile
        The open file.

    Raises
    ------
    ValueError
        If it cannot be decoded, here or while it is read, or its header
        claims an absurd rate or number of channels.
    OSError
        If there is no regular file of this path.

    Example
    -------
    >>> path = str(getfixture("tmpdir").join("file.wav"))
    >>> soundfile.write(path, np.zeros(800), 8000)
    >>> with open_clip(path) as file:
    ...     file.frames
    800
    """
    try:
        if isinstance(data, bytes):
            source = io.BytesIO(data)
        elif stat.S_ISREG(os.stat(data).st_mode):
            source = os.fsencode(data)  # not every name is UTF-8
        else:
            raise ValueError("it is no regular file")
        with ForwardFile(source) as file:
            check_header(file)
            yield file
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"it cannot be decoded: {decoding_problem(error)}"
        ) from error


def decoding_problem(error: soundfile.LibsndfileError) -> str:
    """Tell in a few words why a file could not be decoded.

    Arguments
    ---------
    error : soundfile.LibsndfileError
        What soundfile raised.

    Returns
    -------
    str
        libsndfile's words.

    Example
    -------
    >>> try:
    ...     _ = soundfile.SoundFile(io.BytesIO(b"no sound"))
    ... except soundfile.LibsndfileError as error:
    ...     print(decoding_problem(error))
    Format not recognised
    """
    return error.error_string.removeprefix("Error : ").strip(". ")


class ForwardFile(soundfile.SoundFile):
    """Keeps soundfile from seeking, which fails where a length is unknown.

    Arguments
    ---------
    *args, **kwargs
        As of soundfile.SoundFile.

    Example
    -------
    >>> content = io.BytesIO()
    >>> soundfile.write(content, np.zeros(800), 8000, format="FLAC")
    >>> len(ForwardFile(io.BytesIO(content.getvalue())).read(800))
    800
    """

    def seekable(self) -> bool:
        """Say no."""
        return False


def check_header(file: soundfile.SoundFile) -> None:
    """Refuse rates and channel counts that no clip has.

    Arguments
    ---------
    file : soundfile.SoundFile
        An open file.

    Raises
    ------
    ValueError
        If its header claims such a thing.

    Example
    -------
    >>> content = io.BytesIO()
    >>> soundfile.write(content, np.zeros(8), 8, format="WAV")
    >>> check_header(soundfile.SoundFile(io.BytesIO(content.getvalue())))
    Traceback (most recent call last):
    ...
    ValueError: its header claims a sample rate of 8 Hz, not 1000 to 768000
    """
    if not audio.MIN_RATE <= file.samplerate <= MAX_RATE:
        raise ValueError(
            f"its header claims a sample rate of {file.samplerate} Hz, not "
            f"{audio.MIN_RATE} to {MAX_RATE}"
        )
    if file.channels > MAX_CHANNELS:
        raise ValueError(
            f"its header claims {file.channels} channels, over {MAX_CHANNELS}"
        )


def read_pieces(
    file: soundfile.SoundFile, start: int, num_frames: int
) -> Iterator[np.ndarray]:
    """Read frames in pieces of bounded size.

    Arguments
    ---------
    file : soundfile.SoundFile
        An open file.
    start : int
        Where it stands.
    num_frames : int
        Frames to read.

    Yields
    ------
    [T, C] float32
        The pieces.

    Raises
    ------
    ValueError
        If the file is empty or ends before its header says.

    Example
    -------
    >>> content = io.BytesIO()
    >>> soundfile.write(content, np.zeros(800), 8000, format="FLAC")
    >>> with open_clip(content.getvalue()) as file:
    ...     [piece.shape for piece in read_pieces(file, 0, 800)]
    [(800, 1)]
    """
    num_read = 0
    while num_read < num_frames:
        at_once = min(num_frames - num_read, VALUES_AT_ONCE // file.channels)
        piece = file.read(at_once, dtype="float32", always_2d=True)
        if len(piece) == 0:
            break
        yield piece
        num_read += len(piece)
    if num_read == 0:
        raise ValueError("it is empty")
    knows_length = file.frames < UNKNOWN_LENGTH and file.format != "MP3"
    if num_read < num_frames and knows_length:
        raise ValueError(
            f"it ends after {start + num_read} of the {file.frames} frames "
            "that its header claims"
        )


# A second of the file is a whole number of samples at any other rate, and
# longer than the resampling filter.
MARGIN_SECONDS = 1
BLOCK_VALUES = 2**25  # of all channels, whatever a header claims


def read_blocks(
    path: Union[str, Path], sample_rate: int, block_seconds: int = 30
) -> Iterator[Tensor]:
    """Read a file in blocks that together are the resampled file.

    Memory does not grow with the file.

    Arguments
    ---------
    path : str or Path
        A FLAC, WAV, Ogg or MP3 file.
    sample_rate : int
        The wanted rate in Hz.
    block_seconds : int
        Length of a block; shorter where rate or channels are absurdly many.

    Yields
    ------
    [T, C]
        Blocks, of which only the last may be shorter.

    Raises
    ------
    ValueError
        If it cannot be read, is empty or cut off, or claims an absurd rate or
        number of channels.

    Example
    -------
    >>> path = str(getfixture("tmpdir").join("file.wav"))
    >>> soundfile.write(path, np.zeros((3 * 44100, 2)), 44100)
    >>> [len(block) for block in read_blocks(path, 16000, block_seconds=2)]
    [32000, 16000]
    """
    if not os.path.isfile(path):  # whoever opens a fifo waits for ever
        raise ValueError(f"{path} is missing or not a file.")
    try:
        with ForwardFile(path) as file:
            check_header(file)
            most = BLOCK_VALUES // (file.samplerate * file.channels)
            block_seconds = max(min(block_seconds, most), 1)
            yield from _resample_blocks(file, sample_rate, block_seconds)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path} cannot be decoded: {decoding_problem(error)}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error


def _resample_blocks(
    file: soundfile.SoundFile, sample_rate: int, block_seconds: int
) -> Iterator[Tensor]:
    """Resample blocks with a margin of the file on both sides."""
    rate = file.samplerate
    margin, size = MARGIN_SECONDS * rate, block_seconds * rate
    held = np.zeros((0, file.channels), np.float32)
    first = start = 0  # of what is held, and of the block
    while True:
        wanted = start + size + margin - first - len(held)
        read = file.read(wanted, dtype="float32", always_2d=True)
        held = np.concatenate([held, read])
        if first + len(held) == start:
            break
        resampled = audio.resample(torch.from_numpy(held), rate, sample_rate)
        skipped = (start - first) // rate * sample_rate
        yield resampled[skipped:][: block_seconds * sample_rate]
        start += size
        if first + len(held) <= start:
            start = first + len(held)
            break
        dropped = start - margin - first
        held = held[dropped:]
        first += dropped
    if start == 0:
        raise ValueError("there are 0 samples")
    knows_length = file.frames < UNKNOWN_LENGTH and file.format != "MP3"
    if start < file.frames and knows_length:
        raise ValueError(
            f"it ends after {start} of the {file.frames} frames that its "
            "header claims"
        )


def read_clip(path: Path, sample_rate: int) -> Tensor:
    """Read a clip at a rate; what is read is bounded, whatever its header says.

    Arguments
    ---------
    path : Path
        An audio file.
    sample_rate : int
        The wanted rate in Hz.

    Returns
    -------
    [T, C]
        The clip.

    Raises
    ------
    ValueError
        If it is missing, no regular file, empty, broken, longer than hours,
        or holds NaN.

    Example
    -------
    >>> read_clip(getfixture("pretrained_folder") / "example.wav", 8000).shape
    torch.Size([16080, 1])
    """
    check_there(path)
    blocks, count = [], 0
    try:
        for block in read_blocks(path, sample_rate):
            blocks.append(block)
            count += block.numel()
            if count > MAX_CLIP_VALUES:
                raise ValueError(
                    f"{path} has over {MAX_CLIP_VALUES} samples: cut it "
                    "into clips."
                )
    except TypeError as error:  # soundfile's, of a name that ends in .raw
        raise ValueError(f"{path} cannot be read: {error}") from error
    clip = torch.cat(blocks)
    if not bool(clip.isfinite().all()):
        raise ValueError(f"{path} holds NaN or Inf.")
    return clip
