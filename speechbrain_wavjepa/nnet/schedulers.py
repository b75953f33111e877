"""Learning rate and EMA decay as pure functions of the optimizer step.

A pure function cannot drift on resume. The defaults are WavJEPA's
(https://arxiv.org/abs/2509.23238).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import dataclasses
import math


@dataclasses.dataclass
class WarmupCosine:
    """Linear warm-up from zero, then a cosine down to the final rate.

    Arguments
    ---------
    lr : float
        Highest learning rate, reached after the warm-up.
    warmup_steps : int
        Steps of the warm-up; the first update has learning rate zero.
    total_steps : int
        Step from which the rate stays at final_lr.
    final_lr : float
        The final rate.

    Raises
    ------
    ValueError
        If the warm-up is not shorter than total_steps.

    Example
    -------
    >>> schedule = WarmupCosine(4e-4, warmup_steps=100, total_steps=300)
    >>> schedule(0), schedule(50), schedule(200), schedule(300)
    (0.0, 0.0002, 0.0002, 0.0)
    """

    lr: float
    warmup_steps: int
    total_steps: int
    final_lr: float = 0.0

    def __post_init__(self):
        if not 0 <= self.warmup_steps < self.total_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} must be less than "
                f"total_steps={self.total_steps}: shorten the warm-up."
            )

    def __call__(self, step: int) -> float:
        """Return the learning rate of the update after ``step`` updates."""
        if step < self.warmup_steps:
            return self.lr * step / self.warmup_steps
        if step >= self.total_steps:
            return self.final_lr
        length = self.total_steps - self.warmup_steps
        progress = (step - self.warmup_steps) / length
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.final_lr + (self.lr - self.final_lr) * cosine


@dataclasses.dataclass
class EMADecay:
    """Linear rise of the target encoder's decay, then constant.

    Arguments
    ---------
    start : float
        Decay at step zero.
    end : float
        Decay from ``steps`` on.
    steps : int
        Length of the rise in optimizer steps.

    Raises
    ------
    ValueError
        If a decay does not lie between zero and one.

    Example
    -------
    >>> decay = EMADecay(start=0.9, end=1.0, steps=10)
    >>> decay(0), decay(5), decay(100)
    (0.9, 0.95, 1.0)
    """

    start: float = 0.999
    end: float = 0.99999
    steps: int = 100000

    def __post_init__(self):
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise ValueError(f"Decays must lie between 0 and 1, got {self}.")

    def __call__(self, step: int) -> float:
        """Return the decay of the update after ``step`` updates."""
        if step >= self.steps:
            return self.end
        return self.end - (self.end - self.start) * (1 - step / self.steps)
