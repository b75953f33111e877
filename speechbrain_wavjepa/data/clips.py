"""One clip: from encoded bytes to a waveform of the right rate and level.

The order of the steps follows WavJEPA (https://arxiv.org/abs/2509.23238);
their maths is in ``audio.py``.

Shapes: T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import io
import math
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechbrain_wavjepa import audio

MAX_CHANNELS = 64
MAX_RATE = 768_000
VALUES_AT_ONCE = 2**20  # decoded at once, whatever a header claims
UNKNOWN_LENGTH = 2**62  # a stream of unknown length claims more frames
# The filter of audio.resample reaches 64 / 0.9476 periods of the lower rate
# to each side, so that much is read behind the end of a clip.
FILTER_SECONDS = 68 / audio.MIN_RATE


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
    data: bytes,
    sample_rate: int = 16000,
    clip_samples: int = 160000,
    channels: int = 1,
    channel_policy: str = "first",
    level_db: float = -14.0,
) -> Tensor:
    """Decode the beginning of an encoded clip and bring it to rate and level.

    What is read is bounded by the length of a clip, not by the header, which
    may lie. The channel policy comes before the resampling: both are linear,
    so the result is the same for less work.

    Arguments
    ---------
    data : bytes
        A FLAC, WAV, Ogg or MP3 file.
    sample_rate : int
        The wanted rate in Hz.
    clip_samples : int
        Samples of a clip at that rate; what lies behind is cut off.
    channels : int
        The wanted channels.
    channel_policy : str
        How several channels become one: "first" or "mean".
    level_db : float
        The wanted level in dB relative to full scale. Silence stays silence.

    Returns
    -------
    [T, channels]
        The clip, at most clip_samples long, not padded.

    Raises
    ------
    ValueError
        If it cannot be decoded, is empty, holds values that are not finite,
        or claims an absurd rate or number of channels.

    Example
    -------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.ones((44100, 2)) / 9, 44100, format="FLAC")
    >>> decode_clip(file.getvalue()).shape
    torch.Size([16000, 1])
    """
    seconds = clip_samples / sample_rate + FILTER_SECONDS
    waveform, rate = read_waveform(data, seconds)  # [T, C]
    waveform = audio.apply_channel_policy(waveform, channels, channel_policy)
    waveform = audio.resample(waveform, rate, sample_rate)[:clip_samples]
    # one number tells: not finite if a value is not, or is absurdly large
    if not math.isfinite(torch.linalg.vector_norm(waveform)):
        raise ValueError("it holds values that are not finite or absurd")
    return audio.rms_normalize(waveform, level_db)


def read_waveform(data: bytes, max_seconds: float) -> tuple[Tensor, int]:
    """Decode a file from memory, at most so many seconds of it.

    Arguments
    ---------
    data : bytes
        A FLAC, WAV, Ogg or MP3 file.
    max_seconds : float
        Where to stop. This, not the header, bounds what is allocated.

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

    Example
    -------
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros((800, 2)), 8000, format="WAV")
    >>> waveform, rate = read_waveform(file.getvalue(), max_seconds=0.05)
    >>> waveform.shape, rate
    (torch.Size([400, 2]), 8000)
    """
    try:
        with ForwardFile(io.BytesIO(data)) as file:
            check_header(file)
            frames = min(math.ceil(max_seconds * file.samplerate), file.frames)
            return torch.from_numpy(_read_frames(file, frames)), file.samplerate
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


def _read_frames(file: soundfile.SoundFile, num_frames: int) -> np.ndarray:
    """Read that many frames [T, C] in pieces of bounded size."""
    pieces, num_read = [], 0
    while num_read < num_frames:
        at_once = min(num_frames - num_read, VALUES_AT_ONCE // file.channels)
        piece = file.read(at_once, dtype="float32", always_2d=True)
        if len(piece) == 0:
            break
        pieces.append(piece)
        num_read += len(piece)
    if num_read == 0:
        raise ValueError("it is empty")
    knows_length = file.frames < UNKNOWN_LENGTH and file.format != "MP3"
    if num_read < num_frames and knows_length:
        raise ValueError(
            f"it ends after {num_read} of the {file.frames} frames that its "
            "header claims"
        )
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
