"""Background noises for scenes: recordings of a folder, in any order.

Source: WavJEPA-Nat (https://arxiv.org/abs/2509.23238) takes them from WHAMR!
(https://arxiv.org/abs/1910.10279).

Shapes: T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from pathlib import Path
from typing import Union

import torch
from torch import Tensor

from speechbrain_wavjepa.data.clips import decode_clip
from speechbrain_wavjepa.data.sources import expand_shards, is_clip_name

MAX_SECONDS = 60.0  # read of a longer recording


class NoiseFolder:
    """Noise recordings, read one by one; several channels become the first.

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
    >>> import numpy, soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "rain.wav", numpy.ones(8000) / 2, 8000)
    >>> NoiseFolder(folder)[0].shape
    torch.Size([16000])
    """

    def __init__(self, folder: Union[str, Path], sample_rate: int = 16000):
        if not Path(folder).is_dir():
            raise ValueError(
                f"There is no folder of noises at {folder}: give one as "
                "noise_folder (WHAMR! has such recordings), or begin with "
                "hparams/wavjepa_nat_mini.yaml, which needs none."
            )
        self.files = expand_shards(str(folder))
        packed = [file for file in self.files if not is_clip_name(file)]
        if packed:
            raise ValueError(
                f"{packed[0]} is a packed shard, and noises are read in any "
                f"order: unpack the recordings of {folder}."
            )
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Read a recording [T].

        Raises
        ------
        ValueError
            If it cannot be decoded or is silent.
        """
        file = self.files[index]
        try:
            noise = decode_clip(
                Path(file).read_bytes(),
                self.sample_rate,
                round(MAX_SECONDS * self.sample_rate),
            )
        except ValueError as error:
            raise ValueError(f"{file} cannot be used: {error}") from error
        if not torch.any(noise):
            raise ValueError(f"{file} is silent.")
        return noise[:, 0]
