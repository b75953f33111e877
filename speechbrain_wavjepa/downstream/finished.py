"""Which tasks of a suite are finished, and what they were made with.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from speechbrain_wavjepa.utils.files import atomic_file

DONE = "prediction-done.json"  # the HEAR kit's name


def mark_finished(
    folder: Path,
    made_with: Mapping[str, Any],
    about: Optional[Mapping[str, Any]] = None,
) -> None:
    """Note that a task is finished.

    Arguments
    ---------
    folder : Path
        Where its figures are.
    made_with : Mapping[str, Any]
        The key of the encoder and all settings that the figures depend on;
        plain values.
    about : Mapping[str, Any], optional
        What else to note.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> mark_finished(folder, {"encoder_key": "0a1b"}, {"time": 3.5})
    >>> is_finished(folder, {"encoder_key": "0a1b"})
    True
    """
    note = {**(about or {}), "made_with": made_with}
    with atomic_file(folder / DONE) as aside:
        aside.write_text(json.dumps(note, indent=4), encoding="utf-8")


def is_finished(folder: Path, made_with: Mapping[str, Any]) -> bool:
    """Tell whether a task is finished, with this model and these settings.

    Arguments
    ---------
    folder : Path
        Where its figures would be.
    made_with : Mapping[str, Any]
        As of ``mark_finished``.

    Returns
    -------
    bool
        Whether there is nothing left to do.

    Raises
    ------
    ValueError
        If the figures were made with another model or other settings.

    Example
    -------
    >>> is_finished(getfixture("tmp_path"), {"encoder_key": "0a1b"})
    False
    """
    if not (folder / DONE).exists():
        return False
    note = json.loads((folder / DONE).read_text(encoding="utf-8"))
    before = note.get("made_with", {})
    now = json.loads(json.dumps(made_with))  # lists for tuples, as in the file
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{folder} holds figures that were made with "
                f"{name}={before.get(name)}, not {now.get(name)}: choose "
                "another --output_folder (--embeddings_folder may be shared)."
            )
    return True
