"""What this machine has: packages of an extra, and devices.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import importlib
from types import ModuleType
from typing import Optional

import torch


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package, or name the extra it is in."""
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
    """Return the device that a user asks for, if usable (default: any GPU)."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(0, device=device)
    except (AssertionError, RuntimeError) as error:  # CUDA's is an assertion
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"--device {device} cannot be used here: {reason}"
        ) from error
    return device
