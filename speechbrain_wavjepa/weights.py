"""Files of weights: read without running anything, loaded strictly.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Union

import torch
from torch import Tensor, nn

# Of a pretrained folder: what embeds, and what only pretraining needs.
ENCODER_FILE = "wavjepa.ckpt"
LAYER_SUM_FILE = "layer_sum.ckpt"
PRETRAINING_FILE = "pretraining.ckpt"


def write_weights(state: Mapping[str, Tensor], path: Union[str, Path]) -> None:
    """Write weights as ``torch.save`` does, on the CPU.

    Arguments
    ---------
    state : Mapping[str, Tensor]
        The weights.
    path : str or Path
        The file.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> write_weights(nn.Linear(2, 1).state_dict(), path)
    >>> load_weights(nn.Linear(2, 1), path)
    """
    # clones, so that a view does not carry its whole storage along
    torch.save({key: value.cpu().clone() for key, value in state.items()}, path)


def load_weights(module: nn.Module, path: Union[str, Path]) -> None:
    """Load weights strictly; the hook of a folder's Pretrainer.

    Arguments
    ---------
    module : nn.Module
        Where to.
    path : str or Path
        A file of tensors that ``torch.save`` wrote.

    Raises
    ------
    ValueError
        If the file is damaged or of a model with other sizes.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> torch.save({"weight": torch.ones(1, 2)}, path)
    >>> load_weights(nn.Linear(2, 1), path)
    Traceback (most recent call last):
    ...
    ValueError: .../linear.ckpt does not fit the model: ...
    """
    state = read_weights(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit the model: "
            f"{' '.join(str(error).split())[:600]} Take both files from one "
            "pretrained folder."
        ) from error


def read_weights(path: Union[str, Path]) -> dict[str, Tensor]:
    """Read a file of weights, without running anything it may hold.

    Arguments
    ---------
    path : str or Path
        A file of tensors that ``torch.save`` wrote.

    Returns
    -------
    dict[str, Tensor]
        The weights, on the CPU.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or holds other things.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> torch.save({"weight": torch.ones(1, 2)}, path)
    >>> read_weights(path)
    {'weight': tensor([[1., 1.]])}
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # damaged bytes raise anything: KeyError, IndexError, AttributeError, ...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read, it is missing, cut off or not a file of "
            f"weights: {' '.join(str(error).split())[:200]} Copy it again."
        ) from error
