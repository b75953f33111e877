"""Modules whose weights are loaded whole or not at all.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Mapping
from typing import Any

from torch import nn


class StrictModule(nn.Module):
    """Loads all of its weights or none, strictly whatever is asked for.

    The transfer hook of SpeechBrain's Pretrainer asks for a load that is not
    strict, and a model would keep random weights where a file lacks them.
    """

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
    ):
        """Load weights as PyTorch does, always strictly."""
        return super().load_state_dict(state_dict, True, assign)
