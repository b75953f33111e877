"""Which tasks of a suite are finished, and with which model.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain_wavjepa.atomic_folder import atomic_file

DONE = "prediction-done.json"  # the HEAR kit's name


def mark_finished(
    folder: Path, encoder_key: str, about: Mapping[str, Any]
) -> None:
    """Note that a task is finished.

    Arguments
    ---------
    folder : Path
        Where its figures are.
    encoder_key : str
        Tells models apart.
    about : Mapping[str, Any]
        What else to note.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> mark_finished(folder, "0a1b", {"time": 3.5})
    >>> is_finished(folder, "0a1b")
    True
    """
    note = {**about, "encoder_key": encoder_key}
    with atomic_file(folder / DONE) as aside:
        aside.write_text(json.dumps(note, indent=4), encoding="utf-8")


def is_finished(folder: Path, encoder_key: str) -> bool:
    """Tell whether a task is finished, with this model.

    Arguments
    ---------
    folder : Path
        Where its figures would be.
    encoder_key : str
        Tells models apart.

    Returns
    -------
    bool
        Whether there is anything left to do.

    Raises
    ------
    ValueError
        If the figures are another model's.

    Example
    -------
    >>> is_finished(getfixture("tmp_path"), "0a1b")
    False
    """
    if not (folder / DONE).exists():
        return False
    note = json.loads((folder / DONE).read_text(encoding="utf-8"))
    if note["encoder_key"] != encoder_key:
        raise ValueError(
            f"{folder} holds the scores of another model: choose another "
            "--output_folder."
        )
    return True
