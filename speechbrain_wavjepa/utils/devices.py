"""Where to compute.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from typing import Optional

import torch


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
