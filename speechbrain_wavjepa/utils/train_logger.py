"""The log of training: figures of single steps, for reading and for drawing.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import contextlib
import json
import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

from speechbrain_wavjepa.utils.files import atomic_file

logger = logging.getLogger(__name__)


class StepLog:
    """A log of steps: a file of JSON lines, and TensorBoard if asked for.

    Arguments
    ---------
    path : str or Path
        The file; made when the first line is written.
    tensorboard_folder : str or Path, optional
        Where to write the same figures for TensorBoard.

    Example
    -------
    >>> log = StepLog(getfixture("tmpdir") / "steps.jsonl")
    >>> log.append(step=10, loss=0.5)
    >>> log.append(step=20, loss=0.4)
    >>> log.forget_after(10)
    >>> log.read()
    [{'step': 10, 'loss': 0.5}]
    """

    def __init__(
        self,
        path: Union[str, Path],
        tensorboard_folder: Optional[Union[str, Path]] = None,
    ):
        self.path = Path(path)
        self.tensorboard_folder = tensorboard_folder
        self.writer = None

    def append(self, step: int, **figures: float):
        """Write the figures of one step."""
        with _explain(self.path):
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_format({"step": step, **figures}))
        folder = self.tensorboard_folder
        if folder is None:
            return
        with _explain(folder):
            if self.writer is None:
                # torch.utils.tensorboard needs a package of its own
                from torch.utils.tensorboard import SummaryWriter

                threading.excepthook = _hide_writers_errors
                self.writer = SummaryWriter(folder, purge_step=step)
            for name, value in figures.items():
                self.writer.add_scalar(name, value, step)

    def close(self):
        """Write what TensorBoard's writer still holds; end its thread."""
        writer, self.writer = self.writer, None
        if writer is not None:
            with _explain(self.tensorboard_folder):
                writer.close()

    def read(self) -> list[dict[str, float]]:
        """Return all lines; a last one that was cut off is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines()
        figures = []
        for number, line in enumerate(lines, 1):
            try:
                figures.append(_parse(line))
            except ValueError as error:
                if number < len(lines):
                    raise ValueError(
                        f"Line {number} of {self.path} is damaged: {error}. "
                        "Restore the file, or delete the line."
                    ) from error
                logger.warning(f"The cut last line of {self.path} is left out.")
        return figures

    def forget_after(self, step: int, validated: bool = True):
        """Drop lines after a step, and its validation unless ``validated``."""
        kept = [
            line
            for line in self.read()
            if line["step"] <= step
            and (validated or line["step"] < step or "valid_loss" not in line)
        ]
        with _explain(self.path), atomic_file(self.path) as aside:
            aside.write_text("".join(map(_format, kept)), encoding="utf-8")


@contextlib.contextmanager
def _explain(path: Union[None, str, Path]) -> Iterator[None]:
    """Say what cannot be written, and the way out."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"The log {path} cannot be written: {error.strerror}. Make room, "
            "or put its folder back, and start the same command again."
        ) from error


def _hide_writers_errors(error):
    """Hide the traceback of TensorBoard's thread: ``append`` raises it."""
    if not type(error.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(error)


def _format(figures: dict[str, float]) -> str:
    """Write a line; JSON has no numbers that are not finite."""
    figures = {x: y if math.isfinite(y) else str(y) for x, y in figures.items()}
    return json.dumps(figures) + "\n"


def _parse(line: bytes) -> dict[str, float]:
    """Read a line."""
    figures = json.loads(line)
    if not isinstance(figures, dict) or "step" not in figures:
        raise ValueError("it has no step")
    not_finite = {x: float(y) for x, y in figures.items() if type(y) is str}
    return {**figures, **not_finite}
