"""Waveform in, waveform out: rate, level, channels, windows.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.processing.audio import (
    apply_channel_policy,
    resample,
    rms_normalize,
    standardize,
)
from speechbrain_wavjepa.processing.windows import TokenGrid, random_windows

__all__ = [
    "TokenGrid",
    "apply_channel_policy",
    "random_windows",
    "resample",
    "rms_normalize",
    "standardize",
]
