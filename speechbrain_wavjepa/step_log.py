"""The log of training: figures of single steps, for reading and for drawing.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
from pathlib import Path
from typing import Optional, Union


class StepLog:
    """Appends the figures of a step to a file of JSON lines.

    Arguments
    ---------
    path : str or Path
        The file; made when the first line is written.
    tensorboard_folder : str or Path, optional
        Where to write the same figures for TensorBoard (which has to be
        installed), by optimizer step. None writes none.

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
        with open(self.path, "a", encoding="utf-8") as file:
            print(json.dumps({"step": step, **figures}), file=file)
        if self.tensorboard_folder is None:
            return
        if self.writer is None:
            # torch.utils.tensorboard needs a package of its own
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(
                self.tensorboard_folder, purge_step=step
            )
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self):
        """Write what TensorBoard's writer still holds; end its thread."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def read(self) -> list[dict[str, float]]:
        """Return all lines, in the order in which they were written."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def forget_after(self, step: int):
        """Drop lines of steps that a resumed run will take again."""
        kept = [line for line in self.read() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        self.path.write_text(text, encoding="utf-8")
