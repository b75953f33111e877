"""Training of probes as the HEAR kit does it, all at once.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022): Adam,
batches in a fixed order, validation every few epochs, the weights of the
first best validation, an end after a while without improvement.

Shapes: R rows, D dim, L labels, G probes.

Authors
 * The speechbrain_wavjepa developers 2026

The settings that the HEAR kit tries for a probe.

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022).

Authors
 * The speechbrain_wavjepa developers 2026

Probes of one shape, trained together as one batched model.

Each probe keeps its own initialisation, learning rate, best weights and end
of training; what they share is the pass through the rows.

Source: the shallow networks of the HEAR kit
(https://arxiv.org/abs/2203.03022): linear, batch norm, dropout and ReLU for
each hidden layer, then a linear layer.

Shapes: G probes, R rows, D dim, H hidden units, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from tqdm import tqdm


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


INITIALIZATIONS = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}
PRECISIONS = ("fp32", "bf16")


class ProbeBank(nn.Module):
    """Shallow networks of one shape.

    Arguments
    ---------
    points : sequence of GridPoint
        The settings; number and size of hidden layers, dropout and precision
        must be the same.
    dim : int
        D, size of an embedding.
    num_labels : int
        L, number of labels.
    generator : torch.Generator, optional
        Source of the initial weights.

    Raises
    ------
    ValueError
        If the points have different shapes, an unknown initialization or an
        unknown precision.

    Example
    -------
    >>> points = [GridPoint(lr=1e-3), GridPoint(lr=1e-4)]
    >>> bank = ProbeBank(points, dim=16, num_labels=5)
    >>> bank(torch.randn(7, 16)).shape
    torch.Size([2, 7, 5])
    """

    def __init__(
        self,
        points: Sequence[GridPoint],
        dim: int,
        num_labels: int,
        generator: Optional[torch.Generator] = None,
    ):
        super().__init__()
        shapes = {
            (p.hidden_layers, p.hidden_dim, p.dropout, p.precision)
            for p in points
        }
        if len(shapes) != 1:
            raise ValueError(f"Probes of a bank have one shape, got {shapes}.")
        self.points = list(points)
        ((hidden_layers, hidden_dim, self.dropout, precision),) = shapes
        if precision not in PRECISIONS:
            raise ValueError(
                f"precision={precision!r} must be one of {PRECISIONS}."
            )
        self.half_precision = precision == "bf16"
        sizes = [dim, *[hidden_dim] * hidden_layers, num_labels]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norms = nn.ModuleList()
        for layer, (size, next_size) in enumerate(zip(sizes, sizes[1:])):
            count = len(points)
            weights = torch.empty(count, next_size, size)
            self.weights.append(nn.Parameter(weights))
            self.biases.append(nn.Parameter(torch.empty(count, next_size, 1)))
            if layer < hidden_layers:
                self.norms.append(nn.BatchNorm1d(count * next_size))
        for index in range(len(points)):
            self._initialize(index, generator)

    @torch.no_grad()
    def _initialize(
        self, index: int, generator: Optional[torch.Generator]
    ) -> None:
        """Draw the weights of one probe."""
        name = self.points[index].initialization
        if name not in INITIALIZATIONS:
            raise ValueError(
                f"initialization={name!r} must be one of "
                f"{sorted(INITIALIZATIONS)}."
            )
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            gain = math.sqrt(2) if layer else 1.0  # behind a ReLU
            INITIALIZATIONS[name](weight[index], gain, generator=generator)
            bound = 1 / math.sqrt(weight.shape[2])  # as of nn.Linear
            bias[index].uniform_(-bound, bound, generator=generator)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the logits [G, R, L] of rows [R, D]."""
        hidden = rows.T  # [D, R]; units lie before rows, as batch norm wants
        for weight, bias, norm in zip(self.weights, self.biases, self.norms):
            with torch.autocast(
                rows.device.type, torch.bfloat16, enabled=self.half_precision
            ):
                product = weight @ hidden
            hidden = product.to(bias.dtype) + bias  # [G, H, R]
            hidden = norm(hidden.view(1, -1, len(rows))).view(hidden.shape)
            if self.training and self.dropout:
                hidden = hidden * self._dropout_mask(hidden)
            hidden = hidden.relu()
        logits = self.weights[-1] @ hidden + self.biases[-1]
        return logits.transpose(1, 2)

    def _dropout_mask(self, hidden: Tensor) -> Tensor:
        """Draw a mask for units and rows, the same for all probes.

        None of them learns from another, so they may share it.
        """
        mask = torch.rand(hidden.shape[1:], device=hidden.device)
        return (mask >= self.dropout).to(hidden.dtype) / (1 - self.dropout)

    def views(self, index: int) -> list[Tensor]:
        """List the parameters of one probe as views into the bank."""
        return [
            parameter.detach().view(len(self.points), -1)[index]
            for parameter in self.parameters()
        ]

    def probe_state(self, index: int) -> list[Tensor]:
        """Copy all that makes one probe, running statistics included."""
        return [
            tensor.detach().view(len(self.points), -1)[index].clone()
            for tensor in self._tensors()
        ]

    def load_probe_state(self, index: int, state: Sequence[Tensor]) -> None:
        """Put a copy of ``probe_state`` back."""
        with torch.no_grad():
            for tensor, saved in zip(self._tensors(), state):
                tensor.view(len(self.points), -1)[index] = saved

    def select(self, indices: Sequence[int]) -> "ProbeBank":
        """Make a bank of some of the probes."""
        dim, num_labels = self.weights[0].shape[2], self.weights[-1].shape[1]
        points = [self.points[index] for index in indices]
        bank = ProbeBank(points, dim, num_labels).to(self.weights[0])
        for place, index in enumerate(indices):
            bank.load_probe_state(place, self.probe_state(index))
        return bank

    def _tensors(self) -> list[Tensor]:
        """List parameters and running statistics."""
        running = [
            statistic
            for norm in self.norms
            for statistic in (norm.running_mean, norm.running_var)
        ]
        return [*self.parameters(), *running]


class BankOptimizer:
    """Adam for a bank, with the learning rate of each probe.

    Arguments
    ---------
    bank : ProbeBank
        The probes.

    Example
    -------
    >>> bank = ProbeBank([GridPoint(lr=1e-3), GridPoint(lr=1e-4)], 8, 3)
    >>> bank(torch.randn(5, 8)).square().sum().backward()
    >>> BankOptimizer(bank).step()
    """

    def __init__(self, bank: ProbeBank):
        self.bank = bank
        self.views = [bank.views(index) for index in range(len(bank.points))]
        groups = [
            {"params": views, "lr": point.lr}
            for views, point in zip(self.views, bank.points)
        ]
        self.adam = torch.optim.Adam(groups, fused=True)

    def step(self) -> None:
        """Take a step from the gradients of the bank."""
        count = len(self.bank.points)
        gradients = [p.grad.view(count, -1) for p in self.bank.parameters()]
        for index, views in enumerate(self.views):
            for view, gradient in zip(views, gradients):
                view.grad = gradient[index]
        self.adam.step()

    def select(self, indices: Sequence[int]) -> "BankOptimizer":
        """Go on with some of the probes, as if the others had not been."""
        chosen = BankOptimizer(self.bank.select(indices))
        for views, index in zip(chosen.views, indices):
            for view, old in zip(views, self.views[index]):
                chosen.adam.state[view] = self.adam.state[old]
        return chosen


class Rows(NamedTuple):
    """Embeddings and targets.

    Arguments
    ---------
    embeddings : [R, D]
        The rows.
    targets : [R, L]
        1 for the labels of a row, else 0.

    Example
    -------
    >>> Rows(torch.zeros(3, 8), torch.eye(3)).targets.shape
    torch.Size([3, 3])
    """

    embeddings: Tensor
    targets: Tensor


class TrainedProbe(NamedTuple):
    """A probe at its best validation.

    Arguments
    ---------
    point : GridPoint
        Its settings.
    score : float
        The validation score, higher is better.
    epoch : int
        The epoch of that validation, counted from 0.
    choice : Any
        What the validation chose besides, such as how events are found.
    bank : ProbeBank
        A bank of this probe alone.

    Example
    -------
    >>> bank = ProbeBank([GridPoint()], 8, 3)
    >>> TrainedProbe(GridPoint(), 0.5, 2, None, bank).epoch
    2
    """

    point: GridPoint
    score: float
    epoch: int
    choice: Any
    bank: ProbeBank


# From logits [R, L] of the validation rows to a score, where higher is better,
# and whatever was chosen on the way.
Validate = Callable[[Tensor], tuple[float, Any]]


def probe_loss(logits: Tensor, targets: Tensor, multiclass: bool) -> Tensor:
    """Compute the loss of each probe.

    Arguments
    ---------
    logits : [G, R, L]
        Of each probe.
    targets : [R, L]
        1 for the labels of a row.
    multiclass : bool
        Cross-entropy of the one label, or of each label by itself.

    Returns
    -------
    [G]
        Means over rows.

    Example
    -------
    >>> probe_loss(torch.zeros(2, 3, 4), torch.eye(4)[:3], True)
    tensor([1.3863, 1.3863])
    """
    if multiclass:
        picked = targets.argmax(dim=1).expand(len(logits), -1)[:, :, None]
        chosen = logits.log_softmax(dim=2).gather(2, picked)
        return -chosen.mean(dim=(1, 2))
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, targets.expand_as(logits), reduction="none"
    )
    return losses.mean(dim=(1, 2))


def to_probabilities(logits: Tensor, multiclass: bool) -> Tensor:
    """Turn logits into probabilities of the same shape.

    Arguments
    ---------
    logits : [..., L]
        Of a probe.
    multiclass : bool
        Whether one label excludes the others.

    Returns
    -------
    [..., L]
        The probabilities.

    Example
    -------
    >>> to_probabilities(torch.zeros(1, 4), True)
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return logits.softmax(dim=-1) if multiclass else logits.sigmoid()


def train_probes(
    points: Sequence[GridPoint],
    train: Rows,
    valid_embeddings: Tensor,
    validate: Validate,
    multiclass: bool,
    seed: int = 42,
) -> list[TrainedProbe]:
    """Train a probe for each point of a grid.

    Arguments
    ---------
    points : sequence of GridPoint
        The settings.
    train : Rows
        What to train on, in the order of the batches.
    valid_embeddings : [R, D]
        Rows to validate on.
    validate : callable
        What scores their logits.
    multiclass : bool
        Whether one label excludes the others.
    seed : int
        Source of initial weights and dropout.

    Returns
    -------
    list of TrainedProbe
        In the order of the points.

    Raises
    ------
    ValueError
        If a point would never be validated.

    Example
    -------
    >>> rows = Rows(torch.eye(4).repeat(8, 1), torch.eye(4).repeat(8, 1))
    >>> def accuracy(found):
    ...     right = found.argmax(1) == rows.targets.argmax(1)
    ...     return right.double().mean().item(), None
    >>> points = [GridPoint(lr=lr, max_epochs=30) for lr in (1e-2, 1e-3)]
    >>> probes = train_probes(points, rows, rows.embeddings, accuracy, True)
    >>> [probe.score for probe in probes]
    [1.0, 1.0]
    """
    for point in points:
        if point.max_epochs < point.check_val_every_n_epoch:
            raise ValueError(
                f"A probe of {point.max_epochs} epochs is never validated, "
                f"with check_val_every_n_epoch={point.check_val_every_n_epoch}."
            )
    torch.manual_seed(seed)  # of the dropout
    generator = torch.Generator().manual_seed(seed)
    trained: dict[int, TrainedProbe] = {}

    def shape(index: int) -> tuple:
        point = points[index]
        return (
            point.hidden_layers,
            point.hidden_dim,
            point.dropout,
            point.batch_size,
            point.precision,
        )

    indices = sorted(range(len(points)), key=shape)
    for _, group in itertools.groupby(indices, shape):
        group = list(group)
        probes = _train_bank(
            [points[index] for index in group],
            train,
            valid_embeddings,
            validate,
            multiclass,
            generator,
        )
        trained.update(zip(group, probes))
    return [trained[index] for index in range(len(points))]


def _train_bank(
    points, train, valid_embeddings, validate, multiclass, generator
) -> list[TrainedProbe]:
    """Train probes of one shape together until the last one is done."""
    sizes = train.embeddings.shape[1], train.targets.shape[1]
    bank = ProbeBank(points, *sizes, generator).to(train.embeddings.device)
    optimizer = BankOptimizer(bank)
    batches = _batches(train, points[0].batch_size)
    best: list = [None] * len(points)  # score, epoch, choice, state
    waited = [0] * len(points)
    members = list(range(len(points)))  # of the bank
    progress = tqdm(
        range(max(point.max_epochs for point in points)),
        desc="train probes",
        unit=" epochs",
        leave=False,
    )
    for epoch in progress:
        progress.set_postfix(probes=len(members), refresh=False)
        _train_epoch(optimizer, batches, multiclass)
        logits, done = None, set()
        for place, index in enumerate(members):
            point = points[index]
            if (epoch + 1) % point.check_val_every_n_epoch == 0:
                if logits is None:
                    logits = _compute_logits(optimizer.bank, valid_embeddings)
                score, choice = validate(logits[place])
                finite = math.isfinite(score)
                score = score if finite else -math.inf
                waited[index] += 1
                if best[index] is None or score > best[index][0]:
                    state = optimizer.bank.probe_state(place)
                    best[index] = (score, epoch, choice, state)
                    waited[index] = 0
                if not finite or waited[index] >= point.patience:
                    done.add(place)
            if epoch + 1 >= point.max_epochs:
                done.add(place)
        if len(done) == len(members):
            break
        if done:
            alive = [n for n in range(len(members)) if n not in done]
            members = [members[place] for place in alive]
            optimizer = optimizer.select(alive)
    progress.close()
    trained = []
    for point, (score, epoch, choice, state) in zip(points, best):
        alone = ProbeBank([point], *sizes).to(train.embeddings.device).eval()
        alone.load_probe_state(0, state)
        trained.append(TrainedProbe(point, score, epoch, choice, alone))
    return trained


def _train_epoch(optimizer, batches, multiclass) -> None:
    """Pass once through all batches."""
    bank = optimizer.bank.train()
    for rows in batches:
        bank.zero_grad(set_to_none=True)
        loss = probe_loss(bank(rows.embeddings), rows.targets, multiclass)
        loss.sum().backward()
        optimizer.step()


@torch.no_grad()
def _compute_logits(bank: ProbeBank, embeddings: Tensor) -> Tensor:
    """Compute the logits of validation rows."""
    return bank.eval()(embeddings)


def _batches(train: Rows, batch_size: int) -> list[Rows]:
    """Cut rows into batches in their order; none of a single row."""
    count = max(math.ceil((len(train.embeddings) - 1) / batch_size), 1)
    edges = [number * batch_size for number in range(count)]
    edges.append(len(train.embeddings))
    return [
        Rows(train.embeddings[start:stop], train.targets[start:stop])
        for start, stop in zip(edges, edges[1:])
    ]
