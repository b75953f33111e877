"""Waveform in, waveform out: rate, level, channels, windows.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from speechbrain_wavjepa.processing.audio import (
    resample,
    rms_normalize,
    select_channels,
    standardize,
)
from speechbrain_wavjepa.processing.windows import TokenGrid, random_windows

__all__ = [
    "TokenGrid",
    "select_channels",
    "random_windows",
    "resample",
    "rms_normalize",
    "standardize",
]
