"""A log of training with one JSON line for each logged step.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import json
from pathlib import Path
from typing import Union


class StepLog:
    """Appends the figures of a step to a file, and reads them back.

    Arguments
    ---------
    path : str or Path
        The file; made when the first line is written.

    Example
    -------
    >>> log = StepLog(getfixture("tmpdir") / "steps.jsonl")
    >>> log.append(step=10, loss=0.5)
    >>> log.append(step=20, loss=0.4)
    >>> log.forget_after(10)
    >>> log.read()
    [{'step': 10, 'loss': 0.5}]
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)

    def append(self, **figures):
        """Write one line; ``step`` is among the figures."""
        with open(self.path, "a", encoding="utf-8") as file:
            print(json.dumps(figures), file=file)

    def read(self) -> list[dict]:
        """Return all lines, in the order in which they were written."""
        if not self.path.exists():
            return []
        return [
            json.loads(line)
            for line in self.path.read_text(encoding="utf-8").splitlines()
        ]

    def forget_after(self, step: int):
        """Drop lines of steps that a resumed run will take again."""
        kept = [line for line in self.read() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        self.path.write_text(text, encoding="utf-8")
