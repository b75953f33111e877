"""Clips as a listener in a room hears them.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.augment.brir import BRIRBank
from speechbrain_wavjepa.augment.noises import NoiseFolder, SyntheticNoises
from speechbrain_wavjepa.augment.room_simulation import make_bank
from speechbrain_wavjepa.augment.scenes import (
    SceneMixer,
    SceneParts,
    SceneSampler,
)

__all__ = [
    "BRIRBank",
    "NoiseFolder",
    "SceneMixer",
    "SceneParts",
    "SceneSampler",
    "SyntheticNoises",
    "make_bank",
]
