"""Reads the authors' files: Lightning checkpoints and published folders.

Source: the checkpoints of https://github.com/labhamlet/wavjepa. Nothing in a
file is run: of all classes a pickle may hold only tensors and GELU, which the
authors keep among their hyper-parameters.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from speechbrain_wavjepa.inference.pretrained import (
    check_archive,
    check_file,
    check_weights,
)

SAFE_CLASS = torch.nn.modules.activation.GELU
SAFE_NAME = "torch.nn.modules.activation.GELU"
COMPILE_INFIX = "_orig_mod."
MAX_CONFIG_BYTES = 2**20


class OfficialFile(NamedTuple):
    """What a file of the authors holds.

    Arguments
    ---------
    weights : dict[str, Tensor]
        Weights under the authors' keys, without prefixes.
    hyper_parameters : dict
        Hyper-parameters of their training, or config.json.

    Example
    -------
    >>> OfficialFile({}, {"resample_sr": 16000}).hyper_parameters
    {'resample_sr': 16000}
    """

    weights: dict[str, Tensor]
    hyper_parameters: dict


def read_official(
    path: Union[str, Path], key_prefix: Optional[str] = None
) -> OfficialFile:
    """Read a checkpoint or a published folder of the authors.

    Arguments
    ---------
    path : str or Path
        A Lightning .ckpt, a .safetensors file, or a folder of
        model.safetensors and config.json.
    key_prefix : str, optional
        What stands before each of the authors' keys. By default it is what
        all keys have in common.

    Returns
    -------
    OfficialFile
        The weights and hyper-parameters.

    Raises
    ------
    ValueError
        If the file is damaged, holds other classes, or keys lack the prefix.

    Example
    -------
    >>> path = Path(getfixture("tmpdir")) / "tiny.ckpt"
    >>> weights = {"encoder._orig_mod.norm.bias": torch.zeros(2)}
    >>> weights |= {"mask_token": torch.zeros(1, 1, 2)}
    >>> torch.save({"state_dict": weights}, path)
    >>> list(read_official(path).weights)
    ['encoder.norm.bias', 'mask_token']
    """
    path = file = Path(path)
    if path.is_dir():
        file = path / "model.safetensors"
        weights, _ = _read_safetensors(file)
        hyper_parameters = _read_config(path / "config.json")
    elif path.suffix == ".safetensors":
        weights, hyper_parameters = _read_safetensors(path)
    else:
        content = _read_pickle(path)
        weights = content.get("state_dict")
        hyper_parameters = content.get("hyper_parameters", {})
    if not (
        isinstance(weights, Mapping)
        and isinstance(hyper_parameters, Mapping)
        and len(weights) > 0
        and all(isinstance(value, Tensor) for value in weights.values())
    ):
        raise ValueError(
            f"{path} holds no state_dict of tensors: give a Lightning "
            "checkpoint or a folder with model.safetensors."
        )
    check_weights(dict(weights), file)
    return OfficialFile(
        _plain_keys(weights, key_prefix), dict(hyper_parameters)
    )


def _read_pickle(path: Path) -> dict:
    """Load a checkpoint of tensors, plain values and GELU only."""
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    content = None
    try:
        check_archive(path)
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        refused = sorted(set(unsafe) - {SAFE_NAME})
        if not refused:
            with torch.serialization.safe_globals([SAFE_CLASS]):
                content = torch.load(path, "cpu", weights_only=True)
    # damaged bytes raise anything: KeyError, IndexError, AttributeError, ...
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read, it is cut off or not a checkpoint of "
            f"torch.save: {_one_line(error)} Copy it again."
        ) from error
    if refused:
        raise ValueError(
            f"{path} holds objects of {', '.join(refused)}, which could run "
            "code: save it again with tensors and plain values only."
        )
    return content if isinstance(content, dict) else {}


def _read_safetensors(path: Path) -> tuple[dict, dict]:
    """Load tensors and the hyper-parameters that may stand beside them."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ValueError(
            f"Reading {path} needs the safetensors package: "
            "pip install speechbrain-wavjepa[official]"
        ) from error
    check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}
        return weights, json.loads(metadata.get("hyper_parameters", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read, it is missing, cut off or not a "
            f"safetensors file: {_one_line(error)} Copy it again."
        ) from error


def _read_config(path: Path) -> dict:
    """Read the config.json of a published folder."""
    try:
        check_file(path)
        with open(path, "rb") as file:
            return json.loads(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read: {_one_line(error)} A published folder "
            "has model.safetensors and config.json."
        ) from error


def _one_line(error: Exception) -> str:
    """Shorten an error to one line."""
    return f"{' '.join(str(error).split())[:200].rstrip('.')}."


def _plain_keys(weights: Mapping, key_prefix: Optional[str]) -> dict:
    """Take away what torch.compile and wrappers put before the keys."""
    plain = {
        key.replace(COMPILE_INFIX, ""): value for key, value in weights.items()
    }
    if len(plain) != len(weights):
        raise ValueError(
            f"Keys are there both with and without {COMPILE_INFIX!r}: keep "
            "one set."
        )
    if key_prefix is None:
        common = os.path.commonprefix(list(plain))
        key_prefix = common[: common.rfind(".") + 1] if len(plain) > 1 else ""
    others = [key for key in plain if not key.startswith(key_prefix)]
    if others:
        raise ValueError(
            f"{len(others)} keys do not begin with {key_prefix!r}: "
            f"{list_keys(others)}. Give what stands before 'mask_token'."
        )
    return {key[len(key_prefix) :]: value for key, value in plain.items()}


def list_keys(keys: Sequence[str], most: int = 20) -> str:
    """Write keys in a row, not more than a reader can take in.

    Arguments
    ---------
    keys : Sequence[str]
        The keys.
    most : int
        How many to write.

    Returns
    -------
    str
        The keys, and how many more there are.

    Example
    -------
    >>> list_keys(["one", "two", "three"], most=2)
    'one, two and 1 more'
    """
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more
