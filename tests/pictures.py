"""Whether a run left a picture with something on it."""

import matplotlib.image


def is_drawn(path):
    """Say whether a picture has ink on a tenth of its rows and columns."""
    image = matplotlib.image.imread(path)[..., :3]
    ink = abs(image - image[0, 0]).max(axis=2) > 0.1
    return ink.any(axis=0).mean() > 0.1 and ink.any(axis=1).mean() > 0.1
