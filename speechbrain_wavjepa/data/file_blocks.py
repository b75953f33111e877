"""Long files, read block by block.

Shapes: T samples, C channels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Union

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechbrain_wavjepa.data.clips import (
    UNKNOWN_LENGTH,
    ForwardFile,
    check_header,
    decoding_problem,
)
from speechbrain_wavjepa.processing import audio

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
