"""Optional packages: imported where they are needed, or asked for by name.

Authors
 * The speechbrain_wavjepa developers 2026

Where to compute.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import importlib
from types import ModuleType
from typing import Optional

import torch


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Arguments
    ---------
    module : str
        Its dotted name.
    extra : str
        The extra of setup.py that installs it.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ValueError
        If the package is not installed; with the command that does it.

    Example
    -------
    >>> require("json", "scenes").dumps([1])
    '[1]'
    >>> require("no_such_package", "scenes")
    Traceback (most recent call last):
        ...
    ValueError: This needs the package no_such_package: install it from the
    root of the repository with pip install -e '.[scenes]'.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != package:
            raise  # the package is there, and something that it needs is not
        raise ValueError(
            f"This needs the package {package}: install it from the root of "
            f"the repository with pip install -e '.[{extra}]'."
        ) from error


def find_device(device: Optional[str]) -> str:
    """Say where to compute, if that can be used.

    Arguments
    ---------
    device : str, optional
        What a user asks for (default: "cpu").

    Returns
    -------
    str
        The device.

    Raises
    ------
    ValueError
        If this machine does not have it.

    Example
    -------
    >>> find_device(None)
    'cpu'
    """
    device = device or "cpu"
    try:
        torch.zeros(0, device=device)
    except (AssertionError, RuntimeError) as error:  # CUDA's is an assertion
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"--device {device} cannot be used here: {reason}"
        ) from error
    return device
