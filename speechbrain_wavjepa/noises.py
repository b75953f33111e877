"""Background noises for scenes: recordings of a folder, in any order.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238) takes them from WHAMR!
(https://arxiv.org/abs/1910.10279).

Shapes: T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
import os
from pathlib import Path
from typing import Union

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechbrain_wavjepa.dataio.clips import (
    UNKNOWN_LENGTH,
    ForwardFile,
    check_header,
    decoding_problem,
)
from speechbrain_wavjepa.dataio.shards import AUDIO_SUFFIXES, is_clip_name
from speechbrain_wavjepa.processing.audio import resample, rms_normalize

MAX_SECONDS = 60.0  # read at once of a longer recording
PARTS = 60  # places at which reading of a longer recording begins
FRAMES_AT_ONCE = 2**16


class NoiseFolder:
    """Noise recordings, read one by one; several channels become the first.

    Each recording counts as 60 items. Of one that is longer than a minute
    they are minutes from its beginning to its end, of any other they are all
    the whole recording; so every recording is drawn as often as another, and
    long ones are heard in all parts.

    Arguments
    ---------
    folder : str or Path
        A folder of recordings, searched with its subfolders.
    sample_rate : int
        Rate in Hz that they are brought to.

    Raises
    ------
    ValueError
        If the folder holds no recordings.

    Example
    -------
    >>> import soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "rain.wav", np.ones(8000) / 2, 8000)
    >>> noises = NoiseFolder(folder)
    >>> len(noises.files), len(noises), noises[0].shape
    (1, 60, torch.Size([16000]))
    """

    def __init__(self, folder: Union[str, Path], sample_rate: int = 16000):
        if not Path(folder).is_dir():
            raise ValueError(
                f"There is no folder of noises at {folder}: give one as "
                "noise_folder (WHAMR! has such recordings), or begin with "
                "hparams/wavjepa_nat_mini.yaml, which needs none."
            )
        self.files = sorted(
            str(path)
            for path in Path(folder).rglob("*")
            # a pipe would block, a dangling link is nothing
            if is_clip_name(path.name) and path.is_file()
        )
        if not self.files:
            raise ValueError(
                f"The noise_folder {folder} holds no "
                f"{', '.join(AUDIO_SUFFIXES)} file: unpack the recordings, "
                "which are read in any order."
            )
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        """Return the number of items."""
        return PARTS * len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Read a recording, or a minute of it: [T].

        Raises
        ------
        ValueError
            If it cannot be decoded or is silent.
        OSError
            If it is not there any more.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Noise {index} of {len(self)}.")
        part, number = divmod(index, len(self.files))
        file = self.files[number]
        try:
            waveform, rate = _read_part(file, part)
            noise = resample(waveform, rate, self.sample_rate)
            if not torch.isfinite(torch.linalg.vector_norm(noise)):
                raise ValueError("it holds values that are not finite")
        except ValueError as error:
            raise ValueError(f"{file} cannot be used: {error}") from error
        if not torch.any(noise):
            raise ValueError(f"{file} is silent.")
        return rms_normalize(noise)[:, 0]


def _read_part(path: str, part: int) -> tuple[Tensor, int]:
    """Read a part of a recording: [T, 1] of its first channel, and its rate."""
    os.stat(path)  # soundfile's error would not say that a file is gone
    try:
        with ForwardFile(os.fsencode(path)) as file:  # not every name is UTF-8
            check_header(file)
            wanted = math.ceil(MAX_SECONDS * file.samplerate)
            left = wanted
            if wanted < file.frames < UNKNOWN_LENGTH:
                file.seek((file.frames - wanted) * part // (PARTS - 1))
            pieces = []
            while left > 0:
                at_once = min(left, FRAMES_AT_ONCE)
                piece = file.read(at_once, dtype="float32", always_2d=True)
                if len(piece) == 0:
                    break
                pieces.append(piece[:, :1].copy())
                left -= len(piece)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"it cannot be decoded: {decoding_problem(error)}"
        ) from error
    if not pieces:
        raise ValueError("it is empty")
    knows_length = file.frames < UNKNOWN_LENGTH and file.format != "MP3"
    if knows_length and wanted - left < min(wanted, file.frames):
        raise ValueError(
            f"it ends before the {file.frames} frames that its header claims"
        )
    return torch.from_numpy(np.concatenate(pieces)), file.samplerate
