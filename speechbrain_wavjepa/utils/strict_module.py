"""Modules whose weights are loaded whole or not at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping
from typing import Any

from torch import nn


class StrictModule(nn.Module):
    """A module that takes all of its weights or none.

    The transfer hook of SpeechBrain's Pretrainer asks for a load that is not
    strict, and a model goes on with random weights where a file lacks them.

    Example
    -------
    >>> import torch
    >>> StrictModule().load_state_dict({"weight": torch.ones(1)}, False)
    Traceback (most recent call last):
    ...
    RuntimeError: Error(s) in loading state_dict for StrictModule: ...
    """

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
    ):
        """Load weights as PyTorch does, strictly whatever was asked for."""
        return super().load_state_dict(state_dict, True, assign)
