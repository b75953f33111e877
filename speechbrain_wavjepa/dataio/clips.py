"""Audio files: a clip's length of one, the whole, or block by block.

The order of the steps follows WavJEPA (https://arxiv.org/abs/2509.23238);
their maths is in ``processing/audio.py``. What is read and allocated is
bounded by what is asked for, not by the header of a file, which may lie.

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
from typing import Optional, Union

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
MARGIN_SECONDS = 1  # whole samples at any rate, and longer than the filter
BLOCK_VALUES = 2**25  # of a block, all channels


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
    """Decode a clip's length [T, channels] of a file, at a rate and level."""
    seconds = clip_samples / sample_rate
    part = FILTER_SECONDS, start, stop, draw
    waveform, rate = read_waveform(data, seconds, *part)  # [T, C]
    # before the resampling: both are linear, and this is less work
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
    """Decode a part [T, C] of a file as it was encoded; also give its rate.

    It lies between the samples ``start`` and ``stop``, with a margin behind
    it; ``draw`` (a seed and a pass) chooses which one (``choose_part``).
    """
    with open_clip(data) as file:
        rate = file.samplerate
        end = file.frames if stop is None else min(stop, file.frames)
        if 0 < start >= end:
            raise ValueError(f"its segment begins at sample {start} of {end}")
        if draw is not None and end < UNKNOWN_LENGTH:
            start += choose_part(end - start, max_seconds * rate, *draw)
        if start > 0:
            file.seek(start)
        wanted = math.ceil((max_seconds + margin_seconds) * rate)
        pieces = list(read_pieces(file, start, min(wanted, end - start)))
    waveform = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return torch.from_numpy(waveform), rate


def choose_part(length: int, size: float, seed: int, number: int) -> int:
    """Choose the first sample of the part of a long file that a pass takes.

    The parts lie evenly, the last one at the end. Passes take them in steps
    of about the golden ratio of the file, so few passes already reach all
    regions, and as many passes as there are parts take each once.
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
def open_clip(data: Union[bytes, str]) -> Iterator[soundfile.SoundFile]:
    """Open an encoded file or a path; refuse what no clip is."""
    try:
        if isinstance(data, bytes):
            source = io.BytesIO(data)
        elif stat.S_ISREG(os.stat(data).st_mode):
            source = os.fsencode(data)  # not every name is UTF-8
        else:
            raise ValueError("it is no regular file")
        with _ForwardFile(source) as file:
            rate, count = file.samplerate, file.channels
            if not audio.MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(
                    f"its header claims a sample rate of {rate} Hz, not "
                    f"{audio.MIN_RATE} to {MAX_RATE}"
                )
            if count > MAX_CHANNELS:
                raise ValueError(
                    f"its header claims {count} channels, over {MAX_CHANNELS}"
                )
            yield file
    except soundfile.LibsndfileError as error:
        problem = error.error_string.removeprefix("Error : ").strip(". ")
        raise ValueError(f"it cannot be decoded: {problem}") from error


class _ForwardFile(soundfile.SoundFile):
    """Keeps soundfile from seeking, which fails where a length is unknown."""

    def seekable(self) -> bool:
        return False


def _check_end(file: soundfile.SoundFile, end: int, expected: int) -> None:
    """Refuse a file that is empty or ends before its header says."""
    if end == 0:
        raise ValueError("it is empty")
    knows_length = file.frames < UNKNOWN_LENGTH and file.format != "MP3"
    if knows_length and end < expected:
        raise ValueError(
            f"it ends after {end} of the {file.frames} frames of its header"
        )


def read_pieces(
    file: soundfile.SoundFile, start: int, num_frames: int
) -> Iterator[np.ndarray]:
    """Read frames from where a file stands: pieces [T, C] of bounded size."""
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
    _check_end(file, start + num_read, start + num_frames)


def read_blocks(
    path: Union[str, Path], sample_rate: int, block_seconds: int = 30
) -> Iterator[Tensor]:
    """Read blocks [T, C] that together are the resampled file.

    They are of one length but for the last, shorter for absurd headers.
    """
    check_there(path)  # whoever opens a fifo waits for ever
    try:
        with open_clip(os.fspath(path)) as file:
            most = BLOCK_VALUES // (file.samplerate * file.channels)
            block_seconds = max(min(block_seconds, most), 1)
            yield from _resample_blocks(file, sample_rate, block_seconds)
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
        end = first + len(held)
        if end == start:
            break
        resampled = audio.resample(torch.from_numpy(held), rate, sample_rate)
        skipped = (start - first) // rate * sample_rate
        yield resampled[skipped:][: block_seconds * sample_rate]
        start += size
        if end <= start:
            break
        dropped = start - margin - first
        held = held[dropped:]
        first += dropped
    _check_end(file, end, file.frames)


def read_clip(path: Path, sample_rate: int) -> Tensor:
    """Read a whole file [T, C], of up to 2**28 values."""
    blocks, count = [], 0
    try:
        for block in read_blocks(path, sample_rate):
            blocks.append(block)
            count += block.numel()
            if count > MAX_CLIP_VALUES:
                raise ValueError(
                    f"{path} has over {MAX_CLIP_VALUES} samples: cut it up."
                )
    except TypeError as error:  # soundfile's, of a name that ends in .raw
        raise ValueError(f"{path} cannot be read: {error}") from error
    clip = torch.cat(blocks)
    if not bool(clip.isfinite().all()):
        raise ValueError(f"{path} holds NaN or Inf.")
    return clip
