"""WavJEPA and WavJEPA-Nat for SpeechBrain.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import importlib

__version__ = "0.1.0"

_ROOMS = {
    "WavJEPA": "lobes",
    "WavJEPAEncoder": "lobes",
    "load_pretrained": "inference",
}
__all__ = ["__version__", *_ROOMS]


def __getattr__(name):
    """Import a room when its name is asked for: `import` stays instant."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    room = importlib.import_module(f"{__name__}.{_ROOMS[name]}")
    return getattr(room, name)
