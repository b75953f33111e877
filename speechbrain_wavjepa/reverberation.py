"""The reverberation time of a room, from its response.

Source: M. R. Schroeder, "New method of measuring reverberation time", JASA
37, 1965.

Shapes: R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import numpy as np


def measure_t60(response: np.ndarray, sample_rate: int) -> float:
    """Measure the reverberation time from the decay from -5 to -25 dB.

    Arguments
    ---------
    response : [R]
        A room's response.
    sample_rate : int
        Its rate in Hz.

    Returns
    -------
    float
        Seconds until 60 dB below, by a line through Schroeder's integral.

    Example
    -------
    >>> decay = 10 ** (-3 * np.arange(16000) / 16000 / 0.4)
    >>> noise = np.random.default_rng(0).standard_normal(16000)
    >>> bool(abs(measure_t60(noise * decay, 16000) - 0.4) < 0.02)
    True
    """
    energy = np.cumsum(np.asarray(response, dtype=np.float64)[::-1] ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-12)
    start, stop = (int(np.argmax(level < limit)) for limit in (-5.0, -25.0))
    assert 0 < start < stop
    time = np.arange(start, stop) / sample_rate
    slope = np.polyfit(time, level[start:stop], 1)[0]
    return float(-60.0 / slope)
