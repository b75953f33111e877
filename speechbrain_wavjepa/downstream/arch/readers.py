"""The twelve data sets by ARCH's names.

Source: ARCH (https://arxiv.org/abs/2405.00934); the numbers of clips are
those of WavJEPA's appendix C (https://arxiv.org/abs/2509.23238).

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Union

from speechbrain_wavjepa.downstream.arch.music import (
    read_fma_small,
    read_irmas,
    read_magna_tag_a_tune,
    read_medleydb,
)
from speechbrain_wavjepa.downstream.arch.sound import (
    read_esc50,
    read_fsd50k,
    read_us8k,
    read_vivae,
)
from speechbrain_wavjepa.downstream.arch.speech import (
    read_audio_mnist,
    read_emovo,
    read_ravdess,
    read_slurp,
)
from speechbrain_wavjepa.evaluation.arch_dataset import ArchDataset


class ArchReader(NamedTuple):
    """How a data set is read, and what is known of it.

    Arguments
    ---------
    read : callable
        From the data set's folder to its clips.
    folder : str
        What the folder is usually called.
    num_clips : int
        How many clips the whole data set has.
    max_seconds : float
        To which length ARCH cuts or pads clips for models that ask for it.

    Example
    -------
    >>> READERS["esc50"].num_clips
    2000
    """

    read: Callable[..., ArchDataset]
    folder: str
    num_clips: int
    max_seconds: float


READERS = {
    "esc50": ArchReader(read_esc50, "ESC-50-master", 2000, 5),
    "us8k": ArchReader(read_us8k, "UrbanSound8K", 8732, 5),
    "fsd50k": ArchReader(read_fsd50k, "FSD50K", 51197, 10),
    "vivae": ArchReader(read_vivae, "VIVAE", 1085, 5),
    "fma_small": ArchReader(read_fma_small, "FMA", 8000, 30),
    "magna_tag_a_tune": ArchReader(
        read_magna_tag_a_tune, "MagnaTagATune", 21108, 30
    ),
    "irmas": ArchReader(read_irmas, "IRMAS", 8278, 5),
    "medleydb": ArchReader(read_medleydb, "Medley-solos-DB", 21571, 3),
    "ravdess": ArchReader(read_ravdess, "RAVDESS", 1440, 5),
    "audio_mnist": ArchReader(read_audio_mnist, "AudioMNIST", 30000, 5),
    "slurp": ArchReader(read_slurp, "slurp", 72396, 10),
    "emovo": ArchReader(read_emovo, "EMOVO", 588, 5),
}


def read_dataset(
    name: str, folder: Union[str, Path], **options: Any
) -> ArchDataset:
    """Read one of the data sets.

    Arguments
    ---------
    name : str
        ARCH's name of it.
    folder : str or Path
        Where its files lie as they are published.
    **options : Any
        Of its reader, such as ``parts`` of IRMAS.

    Returns
    -------
    ArchDataset
        Its clips, labels and runs.

    Raises
    ------
    ValueError
        If there is no such data set, or it is not whole.

    Example
    -------
    >>> read_dataset("esc-50", "nowhere")
    Traceback (most recent call last):
    ...
    ValueError: There is no data set 'esc-50' in ARCH, there are [...]...
    """
    if name not in READERS:
        raise ValueError(
            f"There is no data set {name!r} in ARCH, there are {list(READERS)}."
        )
    try:
        dataset = READERS[name].read(Path(folder), **options)
    except (IndexError, KeyError, OSError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(folder) in str(error):
            raise
        raise ValueError(
            f"{name} in {folder} is not as it is published: "
            f"{type(error).__name__}: {error}"
        ) from error
    found, whole = len(dataset.paths), READERS[name].num_clips
    if found != whole:
        note = f"{found} clips; the whole data set has {whole}."
        dataset = dataset._replace(notes=[*dataset.notes, note])
    return dataset
