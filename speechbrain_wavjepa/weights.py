"""Files of weights: read without running anything, loaded strictly.

What is read takes no more memory than the file has bytes, whatever the file
claims, and holds finite numbers only.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.utils.files import hash_file

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


def load_weights(
    module: nn.Module, path: Union[str, Path], sha256: Optional[str] = None
) -> None:
    """Load a file of weights strictly; a hook for a Pretrainer.

    Arguments
    ---------
    module : nn.Module
        Where to.
    path : str or Path
        A file of tensors that ``torch.save`` wrote.
    sha256 : str, optional
        Its checksum.

    Raises
    ------
    ValueError
        If the file is damaged, is not the one of the checksum or is of a
        model with other sizes.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> torch.save({"weight": torch.ones(1, 2)}, path)
    >>> load_weights(nn.Linear(2, 1), path)
    Traceback (most recent call last):
    ...
    ValueError: .../linear.ckpt does not fit the model: ...
    """
    assign_weights(module, read_weights(path, sha256), path)


def assign_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    path: Union[str, Path],
) -> None:
    """Give a module the weights that were read from a file.

    Arguments
    ---------
    module : nn.Module
        Where to.
    weights : Mapping[str, Tensor]
        What ``read_weights`` gave.
    path : str or Path
        The file, for the message.

    Raises
    ------
    ValueError
        If they are of a model with other sizes.

    Example
    -------
    >>> linear = nn.Linear(1, 1, bias=False)
    >>> assign_weights(linear, {"weight": torch.ones(1, 1)}, "linear.ckpt")
    >>> linear.weight.item()
    1.0
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit the model: "
            f"{' '.join(str(error).split())[:600]} Take both files from one "
            "pretrained folder."
        ) from error


def check_file(path: Union[str, Path], sha256: Optional[str] = None) -> None:
    """Refuse what is not a file, or not the file of a checksum.

    Arguments
    ---------
    path : str or Path
        A file, or a symbolic link to one.
    sha256 : str, optional
        Its checksum.

    Raises
    ------
    ValueError
        If there is no such file.

    Example
    -------
    >>> check_file("nowhere.ckpt")
    Traceback (most recent call last):
    ...
    ValueError: nowhere.ckpt cannot be read: it is missing or not a file.
    """
    if not os.path.isfile(path):  # whoever opens a fifo waits for ever
        raise ValueError(f"{path} cannot be read: it is missing or not a file.")
    if sha256 is not None and hash_file(path) != sha256:
        raise ValueError(
            f"{path} differs from its checksum in hyperparams.yaml: it is "
            "damaged or of another model. Copy the whole folder again."
        )


def read_weights(
    path: Union[str, Path], sha256: Optional[str] = None
) -> dict[str, Tensor]:
    """Read a file of weights, without running anything it may hold.

    Arguments
    ---------
    path : str or Path
        A file of tensors that ``torch.save`` wrote.
    sha256 : str, optional
        Its checksum.

    Returns
    -------
    dict[str, Tensor]
        The weights, on the CPU.

    Raises
    ------
    ValueError
        If the file is missing or damaged, is not the one of the checksum, or
        holds other things than finite weights.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> torch.save({"weight": torch.ones(1, 2)}, path)
    >>> read_weights(path)
    {'weight': tensor([[1., 1.]])}
    """
    check_file(path, sha256)
    try:
        check_archive(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    # damaged bytes raise anything: KeyError, IndexError, AttributeError, ...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read, it is cut off or not a file of weights: "
            f"{' '.join(str(error).split())[:200]} Copy it again."
        ) from error
    check_weights(weights, path)
    return weights


def check_archive(path: Union[str, Path]) -> None:
    """Refuse a file of ``torch.save`` that grows when it is read.

    Arguments
    ---------
    path : str or Path
        The file.

    Raises
    ------
    ValueError
        If its members are compressed or overlap; ``torch.save`` does neither.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "zeros.ckpt"
    >>> with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    ...     archive.writestr("data/0", bytes(10**6))
    >>> check_archive(path)
    Traceback (most recent call last):
    ...
    ValueError: its members claim more bytes than it has.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > os.path.getsize(path):
        raise ValueError("its members claim more bytes than it has.")


def check_weights(weights: Any, path: Union[str, Path]) -> None:
    """Refuse what was read if it is not finite weights.

    Arguments
    ---------
    weights : Any
        What a file held.
    path : str or Path
        The file.

    Raises
    ------
    ValueError
        If it is not a mapping of names to tensors, claims more values than
        the file has bytes for, or holds NaN or Inf.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "linear.ckpt"
    >>> _ = path.write_bytes(bytes(4))
    >>> check_weights({"bias": torch.tensor(torch.nan)}, path)
    Traceback (most recent call last):
    ...
    ValueError: .../linear.ckpt has weights that are not finite in bias: ...
    """
    if not isinstance(weights, dict) or not all(
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and value.dtype.is_floating_point
        for key, value in weights.items()
    ):
        raise ValueError(f"{path} holds other things than weights.")
    # an expanded tensor claims any size for a single number
    claimed = sum(value.nbytes for value in weights.values())
    if claimed > os.path.getsize(path):
        raise ValueError(
            f"{path} claims {claimed} bytes of weights and has "
            f"{os.path.getsize(path)}."
        )
    for key, value in weights.items():
        if not bool(value.float().isfinite().all()):
            raise ValueError(
                f"{path} has weights that are not finite in {key}: it is "
                "damaged, or training diverged. Take another copy or an "
                "earlier checkpoint."
            )
