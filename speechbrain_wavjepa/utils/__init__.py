"""Checkpoints, files, logs, pictures, processes.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import importlib

_MODULES = {"AtomicCheckpointer": "checkpoints", "StepLog": "train_logger"}
__all__ = list(_MODULES)


def __getattr__(name):
    """Import a module when its name is asked for: some import SpeechBrain."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)
