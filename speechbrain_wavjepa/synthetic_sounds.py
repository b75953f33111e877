"""Generators of synthetic sounds, one for each class.

Classes come in pairs that share their long-term spectrum and differ in time:
what rises and what falls, what is steady and what is modulated, what is
regular and what is not. Pitch, tempo and timbre vary widely within a class.

Shapes: T samples.

Authors
 * The speechbrain_wavjepa developers 2026
"""

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator


def _log_uniform(random: Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _oscillate(
    random: Generator, frequency: np.ndarray, rate: int
) -> np.ndarray:
    """Sum harmonics of a frequency [T] that may change; timbre is random."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    slope = random.uniform(0.5, 2.0)
    wave = np.zeros_like(phase)
    for harmonic in range(1, random.integers(2, 9)):
        if harmonic * frequency.max() < 0.45 * rate:
            start = random.uniform(0, 2 * np.pi)
            wave += np.sin(harmonic * phase + start) / harmonic**slope
    return wave


def _band_noise(random: Generator, num_samples: int, rate: int) -> np.ndarray:
    """Make noise around a random centre, one half to two octaves wide."""
    centre = _log_uniform(random, 300, 5000)
    width = random.uniform(0.25, 1.0)
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / rate)
    octaves = np.log2(np.maximum(frequency, 1) / centre)
    return np.fft.irfft(
        spectrum * np.exp(-0.5 * (octaves / width) ** 2), num_samples
    )


def _place(
    wave: np.ndarray, sound: np.ndarray, start: int, gain: float = 1.0
) -> None:
    """Add a short sound into a wave, cut at its end."""
    sound = sound[: len(wave) - start]
    wave[start : start + len(sound)] += gain * sound


def _starts(
    random: Generator, num_samples: int, rate: int, regular: bool
) -> np.ndarray:
    """Choose onsets, 3 to 12 in a second, evenly spaced or scattered."""
    tempo = _log_uniform(random, 3, 12)
    count = max(2, int(tempo * num_samples / rate))
    if regular:
        return (np.arange(count) * num_samples / count).astype(int)
    return np.sort(random.integers(0, num_samples, count))


def _steady_tone(random, num_samples, rate):
    frequency = np.full(num_samples, _log_uniform(random, 100, 1600))
    return _oscillate(random, frequency, rate)


def _vibrato_tone(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    depth = random.uniform(0.04, 0.12)
    swing = np.sin(2 * np.pi * random.uniform(4, 9) * time)
    centre = _log_uniform(random, 100, 1600)
    return _oscillate(random, centre * (1 + depth * swing), rate)


def _tremolo_tone(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    swing = np.sin(2 * np.pi * random.uniform(4, 9) * time)
    return _steady_tone(random, num_samples, rate) * (1 + 0.9 * swing)


def _sweep(random, num_samples, rate, rising):
    low = _log_uniform(random, 100, 800)
    high = low * random.uniform(2, 5)
    count = random.integers(1, 7)
    ramp = (np.arange(num_samples) * count / num_samples) % 1.0
    ramp = ramp if rising else 1 - ramp
    return _oscillate(random, low * (high / low) ** ramp, rate)


def _rising_sweep(random, num_samples, rate):
    return _sweep(random, num_samples, rate, rising=True)


def _falling_sweep(random, num_samples, rate):
    return _sweep(random, num_samples, rate, rising=False)


def _siren(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    swing = np.sin(2 * np.pi * random.uniform(0.5, 2) * time)
    ratio = random.uniform(1.4, 2.2)
    return _oscillate(
        random, _log_uniform(random, 200, 1600) * ratio**swing, rate
    )


def _steady_noise(random, num_samples, rate):
    return _band_noise(random, num_samples, rate)


def _gusty_noise(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    tempo = random.uniform(2, 8)
    phase = random.uniform(0, 2 * np.pi)
    gusts = np.maximum(np.sin(2 * np.pi * tempo * time + phase), 0) ** 2
    return _band_noise(random, num_samples, rate) * (0.05 + gusts)


def _hits(random, num_samples, rate, regular):
    length = int(rate * 0.3)
    decay = np.exp(-np.arange(length) / (rate * random.uniform(0.01, 0.06)))
    sound = _band_noise(random, length, rate) * decay
    wave = np.zeros(num_samples)
    for start in _starts(random, num_samples, rate, regular):
        _place(wave, sound, start, random.uniform(0.6, 1.0))
    return wave


def _regular_hits(random, num_samples, rate):
    return _hits(random, num_samples, rate, regular=True)


def _scattered_hits(random, num_samples, rate):
    return _hits(random, num_samples, rate, regular=False)


def _plucks(random, num_samples, rate):
    wave = np.zeros(num_samples)
    length = int(rate * 0.6)
    decay = np.exp(-np.arange(length) / (rate * random.uniform(0.05, 0.2)))
    root = _log_uniform(random, 100, 800)
    for start in _starts(random, num_samples, rate, regular=True):
        frequency = np.full(length, root * 2 ** (random.integers(0, 13) / 12))
        _place(wave, _oscillate(random, frequency, rate) * decay, start)
    return wave


def _formants(random, wave, rate):
    """Shape a source by four resonances that move between two vowels."""
    spectrum = np.fft.rfft(wave)
    frequency = np.fft.rfftfreq(len(wave), 1 / rate)
    scale = random.uniform(0.85, 1.2)
    shaped = []
    for _ in range(2):
        first, second = random.uniform(280, 850), random.uniform(900, 2400)
        gain = sum(
            1 / (1 + ((frequency - scale * centre) / width) ** 2)
            for centre, width in (
                (first, 60),
                (second, 90),
                (2700, 140),
                (3600, 200),
            )
        )
        shaped.append(np.fft.irfft(spectrum * gain, len(wave)))
    time = np.arange(len(wave)) / rate
    mix = 0.5 + 0.5 * np.sin(2 * np.pi * random.uniform(2, 5) * time)
    return mix * shaped[0] + (1 - mix) * shaped[1]


def _voice(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    drift = 1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.3, 3) * time)
    pitch = _log_uniform(random, 80, 350) * drift
    phase = np.cumsum(pitch) / rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    return _formants(random, pulses, rate)


def _whisper(random, num_samples, rate):
    return _formants(random, random.standard_normal(num_samples), rate)


def _tweets(random, num_samples, rate):
    wave = np.zeros(num_samples)
    length = int(rate * random.uniform(0.05, 0.15))
    window = np.hanning(length)
    for start in _starts(random, num_samples, rate, regular=False):
        ends = np.log([_log_uniform(random, 1500, 6000) for _ in range(2)])
        frequency = np.exp(np.linspace(*ends, length))
        phase = 2 * np.pi * np.cumsum(frequency) / rate
        _place(wave, np.sin(phase) * window, start)
    return wave


def _ring(random, num_samples, rate):
    time = np.arange(num_samples) / rate
    carrier = _log_uniform(random, 300, 2500)
    ratio = random.choice([1.41, 1.73, 2.76, 3.14])
    index = random.uniform(1, 5) * np.exp(-time / random.uniform(0.5, 2))
    inner = np.sin(2 * np.pi * carrier / ratio * time)
    return np.sin(2 * np.pi * carrier * time + index * inner)


SOUNDS: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "steady tone": _steady_tone,
    "vibrato tone": _vibrato_tone,
    "tremolo tone": _tremolo_tone,
    "rising sweep": _rising_sweep,
    "falling sweep": _falling_sweep,
    "siren": _siren,
    "steady noise": _steady_noise,
    "gusty noise": _gusty_noise,
    "regular hits": _regular_hits,
    "scattered hits": _scattered_hits,
    "plucks": _plucks,
    "voice": _voice,
    "whisper": _whisper,
    "tweets": _tweets,
    "ring": _ring,
}
