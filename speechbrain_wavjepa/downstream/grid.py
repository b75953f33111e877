"""The settings that the HEAR kit tries for a probe.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022).

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional


class GridPoint(NamedTuple):
    """The settings of one probe.

    Arguments
    ---------
    hidden_layers : int
        Hidden layers; 0 for a linear probe.
    hidden_dim : int
        Units of a hidden layer.
    dropout : float
        Dropout in the hidden layers.
    lr : float
        Learning rate of Adam.
    initialization : str
        "xavier_uniform" or "xavier_normal".
    batch_size : int
        Rows of a batch.
    max_epochs : int
        Passes through the training rows at most.
    check_val_every_n_epoch : int
        Epochs between two validations.
    patience : int
        Validations without improvement after which the training stops.
    precision : str
        "fp32" as in the kit, or "bf16": products of hidden layers in half
        precision, weights and all else in single.

    Example
    -------
    >>> GridPoint(hidden_layers=0, lr=1e-3).hidden_dim
    1024
    """

    hidden_layers: int = 1
    hidden_dim: int = 1024
    dropout: float = 0.1
    lr: float = 1e-3
    initialization: str = "xavier_uniform"
    batch_size: int = 1024
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    patience: int = 20
    precision: str = "fp32"


GRIDS: dict[str, dict[str, list]] = {
    "default": {
        "hidden_layers": [1, 2],
        "initialization": ["xavier_uniform", "xavier_normal"],
        "lr": [3.2e-3, 1e-3, 3.2e-4, 1e-4],
    },
}
GRIDS["fast"] = {
    **GRIDS["default"],
    "max_epochs": [10, 50],
    "check_val_every_n_epoch": [3, 10],
}
GRIDS["faster"] = {
    **GRIDS["default"],
    "hidden_layers": [0, 1],
    "hidden_dim": [64, 128],
    "max_epochs": [10],
    "check_val_every_n_epoch": [1],
    "patience": [1, 3],
}
# A task's metadata may be a stranger's: kinds and bounds of an axis.
LIMITS: dict[str, tuple[type, float, float]] = {
    "hidden_layers": (int, 0, 16),
    "hidden_dim": (int, 1, 2**16),
    "dropout": (float, 0, 1),
    "lr": (float, 0, 100),
    "batch_size": (int, 1, 2**20),
    "max_epochs": (int, 1, 10**5),
    "check_val_every_n_epoch": (int, 1, 10**5),
    "patience": (int, 0, 10**5),
}
MAX_POINTS = 10_000
# What the kit changes for some tasks.
TASK_GRIDS = {"dcase2016_task2": {"check_val_every_n_epoch": [10]}}


def check_axis(name: str, values: Any) -> None:
    """Refuse an axis of a grid that no probe can have.

    Arguments
    ---------
    name : str
        A field of ``GridPoint``.
    values : Any
        Its values.

    Raises
    ------
    ValueError
        If it is no list, or a value is of a wrong kind or size.

    Example
    -------
    >>> check_axis("hidden_dim", [256, 10**12])
    Traceback (most recent call last):
    ...
    ValueError: The grid has hidden_dim=[256, 1000000000000]: ...
    """
    kind, low, high = LIMITS.get(name, (str, "", chr(0x10FFFF)))
    kinds = (int, float) if kind is float else kind
    if (
        not isinstance(values, (list, tuple))
        or not values
        or any(isinstance(value, bool) for value in values)
        or not all(isinstance(value, kinds) for value in values)
        or not all(low <= value <= high for value in values)
    ):
        between = f" from {low} to {high}" if name in LIMITS else ""
        raise ValueError(
            f"The grid has {name}={values}: it must be a list of "
            f"{kind.__name__}{between}."
        )


def sample_grid(
    grid: Mapping[str, Sequence[Any]],
    task_name: str = "",
    num_points: Optional[int] = 8,
    task_grid: Optional[Mapping[str, Sequence[Any]]] = None,
) -> list[GridPoint]:
    """Choose the points of a grid that the kit would try.

    Arguments
    ---------
    grid : Mapping[str, Sequence]
        Values of the axes, such as one of ``GRIDS``; the others keep the
        default of ``GridPoint``.
    task_name : str
        Some tasks have axes of their own.
    num_points : int, optional
        How many points (default 8); None for all.
    task_grid : Mapping[str, Sequence], optional
        ``task_specific_param_grid`` of the task's metadata.

    Returns
    -------
    list of GridPoint
        In the order in which they are tried.

    Raises
    ------
    ValueError
        If an axis is unknown, a value absurd, or there are too many points.

    Example
    -------
    >>> point = sample_grid(GRIDS["default"])[0]
    >>> point.hidden_layers, point.initialization, point.lr
    (1, 'xavier_normal', 0.0001)
    """
    axes = {**grid, **TASK_GRIDS.get(task_name, {}), **(task_grid or {})}
    if unknown := sorted(set(axes) - set(GridPoint._fields)):
        raise ValueError(
            f"Unknown axes {unknown} of the grid: there are "
            f"{list(GridPoint._fields)}."
        )
    for name, values in axes.items():
        check_axis(name, values)
    if math.prod(map(len, axes.values())) > MAX_POINTS:
        raise ValueError(f"The grid has over {MAX_POINTS} points: {axes}.")
    # the kit's order: axes by name, the last one fastest; its seed is 42
    names = sorted(axes)
    points = [
        GridPoint(**dict(zip(names, values)))
        for values in itertools.product(*(axes[name] for name in names))
    ]
    random.Random(42).shuffle(points)
    return points[:num_points]
