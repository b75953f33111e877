"""An ear of a turned head, as a microphone of pyroomacoustics.

Source: pyroomacoustics (https://arxiv.org/abs/1710.04196), which this module
needs: import it late.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import numpy as np
from pyroomacoustics.directivities import Directivity

from speechbrain_wavjepa.augment.hrtf import Head


class EarDirectivity(Directivity):
    """The responses of one ear, by direction in the room.

    Arguments
    ---------
    head : Head
        The head.
    ear : int
        0 for the left one, 1 for the right one.
    orientation : float
        Degrees by which the head is turned to its left.

    Example
    -------
    >>> from speechbrain_wavjepa.augment.hrtf import SphericalHead
    >>> ear = EarDirectivity(SphericalHead(16000), ear=0, orientation=90.0)
    >>> ear.get_response_cartesian(np.array([[1.0, 0.0, 0.0]])).shape
    (1, 96)
    """

    def __init__(self, head: Head, ear: int, orientation: float):
        self.head = head
        self.ear = ear
        turn = np.radians(orientation)
        self.rotation = np.array(
            [
                [np.cos(turn), np.sin(turn), 0.0],
                [-np.sin(turn), np.cos(turn), 0.0],
                [0.0, 0.0, 1.0],
            ]
        )

    is_impulse_response = True

    @property
    def filter_len_ir(self) -> int:
        """Samples of a response."""
        return self.head.responses(np.array([[1.0, 0.0, 0.0]])).shape[2]

    def get_response_cartesian(
        self, directions: np.ndarray, magnitude: bool = False
    ) -> np.ndarray:
        """Give the responses [n, R] for vectors [n, 3] in the room."""
        return self.head.responses(directions @ self.rotation.T)[:, self.ear]

    def get_response(
        self, azimuth, colatitude=None, magnitude=False, degrees=True
    ) -> np.ndarray:
        """Give the responses [n, R] for angles in the room."""
        if degrees:
            azimuth, colatitude = np.radians(azimuth), np.radians(colatitude)
        directions = np.stack(
            (
                np.sin(colatitude) * np.cos(azimuth),
                np.sin(colatitude) * np.sin(azimuth),
                np.cos(colatitude),
            ),
            axis=-1,
        )
        return self.get_response_cartesian(directions)

    def sample_rays(self, n_rays, rng=None):
        """Refuse: an ear sends no rays."""
        raise TypeError("An ear is a receiver, not a source.")
