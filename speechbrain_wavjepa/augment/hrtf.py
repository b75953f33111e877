"""Heads: what reaches two ears from a direction (head-related responses).

Sources: interaural time difference of a rigid sphere, R. S. Woodworth,
"Experimental Psychology", 1938; its shadow, C. P. Brown and R. O. Duda, "A
structural model for binaural sound synthesis", IEEE TSAP 6(5), 1998. Measured
heads come as SOFA files (AES69, https://www.sofaconventions.org).

Directions: x ahead, y to the left, z up; azimuth 0 degrees is ahead, 90 left.
Shapes: n directions, R samples of a response.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from pathlib import Path
from typing import Union

import numpy as np
import torch

from speechbrain_wavjepa.processing.audio import resample
from speechbrain_wavjepa.utils.environment import require

SPEED_OF_SOUND = 343.0  # m/s
MAX_VALUES = 2**27  # of a dataset: 30,000 directions of 2048 samples


def to_vector(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Turn angles [...] in radians into unit vectors [..., 3]."""
    flat = np.cos(elevation)
    ahead, left = flat * np.cos(azimuth), flat * np.sin(azimuth)
    return np.stack((ahead, left, np.sin(elevation)), axis=-1)


class SphericalHead:
    """A rigid sphere with an ear at either side; its responses at a rate."""

    lead = 24  # samples by which all responses are late: an ear can be early
    taps = 96

    def __init__(self, sample_rate: int = 16000, radius: float = 0.0875):
        self.sample_rate = sample_rate
        self.radius = radius  # metres

    def delay(self, directions: np.ndarray) -> np.ndarray:
        """Find by how much each ear is late, after Woodworth: [n, 2] s."""
        angle = self._incidence(directions)
        towards = np.where(angle < np.pi / 2, -np.cos(angle), angle - np.pi / 2)
        return self.radius / SPEED_OF_SOUND * towards

    def responses(self, directions: np.ndarray) -> np.ndarray:
        """Compute the responses [n, 2, R] of both ears to vectors [n, 3]."""
        frequency = np.fft.rfftfreq(self.taps, 1 / self.sample_rate)
        # Brown and Duda: a pole and a zero that moves with the incidence
        relative = 1j * np.pi * frequency * self.radius / SPEED_OF_SOUND
        degrees = np.degrees(self._incidence(directions))[..., None]
        zero = 1.05 + 0.95 * np.cos(np.radians(1.2 * degrees))
        shadow = (1 + zero * relative) / (1 + relative)
        delay = self.delay(directions)[..., None] + self.lead / self.sample_rate
        spectrum = shadow * np.exp(-2j * np.pi * frequency * delay)
        # a smooth end of the band, or a fractional delay rings for long
        fade = np.cos(0.5 * np.pi * (frequency / frequency[-1]) ** 8)
        return np.fft.irfft(spectrum * fade, self.taps)

    def _incidence(self, directions: np.ndarray) -> np.ndarray:
        """Find the angle [n, 2] between each sound and each ear's axis."""
        to_left = np.clip(directions[:, 1], -1.0, 1.0)
        return np.arccos(np.stack((to_left, -to_left), axis=1))


class MeasuredHead:
    """A head whose responses were measured: of all directions the nearest."""

    def __init__(self, path: Union[str, Path], sample_rate: int = 16000):
        places, responses, rate = _read_sofa(Path(path))
        self.directions = to_vector(*np.radians(places[:, :2]).T)
        count, ears, taps = responses.shape
        flat = torch.from_numpy(responses.reshape(count * ears, taps).T)
        flat = resample(flat.float().contiguous(), rate, sample_rate)
        self._responses = flat.T.numpy().reshape(count, ears, -1)
        # a mean energy of one is near the sphere's
        self._responses /= np.sqrt(np.mean(np.sum(self._responses**2, axis=2)))
        # when the sound comes to the place of the head: both ears' middle
        onset = np.abs(self._responses).argmax(axis=2)  # [n, 2]
        self.lead = round(float(np.mean(onset)))

    def responses(self, directions: np.ndarray) -> np.ndarray:
        """Look up the responses [n, 2, R] of both ears to vectors [n, 3]."""
        nearest = (directions @ self.directions.T).argmax(axis=1)
        return self._responses[nearest]


Head = Union[SphericalHead, MeasuredHead]


class Ear:
    """An ear (0 left, 1 right) of a head turned by degrees to its left.

    Pyroomacoustics' own ``MeasuredDirectivity`` also takes the nearest
    direction, but makes a scene three times as slow (0.7 to 2.1 s).
    """

    is_impulse_response = True

    def __init__(self, head: Head, ear: int, orientation: float):
        # registered and not derived: this file imports without the extra
        module = require("pyroomacoustics.directivities", "scenes")
        module.Directivity.register(Ear)
        self.head, self.ear = head, ear
        turn = np.radians(orientation)
        cos, sin = np.cos(turn), np.sin(turn)
        self.turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        self.filter_len_ir = head.responses(np.eye(3)).shape[2]

    def get_response_cartesian(self, directions, magnitude=False):
        """Give the responses [n, R] for vectors [n, 3] in the room."""
        return self.head.responses(directions @ self.turn)[:, self.ear]

    def get_response(self, azimuth, colatitude, magnitude=False, degrees=True):
        """Give the responses [n, R] for angles in the room."""
        if degrees:
            azimuth, colatitude = np.radians(azimuth), np.radians(colatitude)
        directions = to_vector(azimuth, np.pi / 2 - colatitude)
        return self.get_response_cartesian(directions)


# Pyroomacoustics' own reader needs python-sofa and netCDF4, follows links to
# other files and allocates what a header claims.
def _read_sofa(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Read directions [n, 2 or 3] in degrees, responses [n, 2, R], rate."""
    h5py = require("h5py", "scenes")
    if not path.is_file():
        raise ValueError(f"{path} is not there: give the path of a SOFA file.")
    try:
        with h5py.File(path) as file:
            places = _read_numbers(file, "SourcePosition")
            kind = file["SourcePosition"].attrs.get("Type", "spherical")
            responses = _read_numbers(file, "Data.IR")
            rate = _read_numbers(file, "Data.SamplingRate").reshape(-1)[:1]
            if "Data.Delay" in file and _read_numbers(file, "Data.Delay").any():
                raise ValueError("its delays stand apart (Data.Delay)")
    # what h5py raises on damaged files
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{path} is no SOFA file (SimpleFreeFieldHRIR): {error}."
        ) from error
    kind = kind.decode("utf-8", "replace") if isinstance(kind, bytes) else kind
    is_head = (
        (responses.ndim, responses.shape[1:2], places.ndim) == (3, (2,), 2)
        and (len(places) == len(responses) and places.shape[1] >= 2)
        and "spherical" in str(kind)
    )
    if not is_head:
        raise ValueError(
            f"{path} has responses {list(responses.shape)} at {kind} places "
            f"{list(places.shape)}, not [n, 2, samples] and [n, 2 or more] (a "
            "spherical place for each)."
        )
    if not responses.any():
        raise ValueError(f"{path} is silent.")
    if not (rate.size and rate[0].is_integer() and 1000 <= rate[0] <= 768000):
        raise ValueError(f"{path} has its rate as {rate.tolist()} Hz.")
    return places, responses, int(rate[0])


def _read_numbers(file, name: str) -> np.ndarray:
    """Read a bounded number of numbers that lie in the file itself."""
    h5py = require("h5py", "scenes")
    # a link could lead to another file, or to a pipe that blocks
    is_here = isinstance(file.get(name, getlink=True), h5py.HardLink)
    data = file[name] if is_here else None
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise ValueError(f"{name} is no dataset of this file")
    num_values = max(data.size or 0, math.prod(data.chunks or ()))
    if data.dtype.kind not in "fiu" or num_values > MAX_VALUES:
        raise ValueError(
            f"{name} is {data.dtype} of shape {list(data.shape or ())}, not "
            f"{MAX_VALUES} numbers at most"
        )
    numbers = np.array(data, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} is not finite")
    return numbers
