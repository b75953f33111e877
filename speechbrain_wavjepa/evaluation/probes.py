"""The HEAR kit's grid of shallow probes, trained together.

As in the kit: Adam, batches in a fixed order, validation every few epochs,
the weights of the first best validation, an end after some validations without
improvement. Probes of one shape share the pass through the rows (a bank).

Source: the HEAR evaluation kit (https://arxiv.org/abs/2203.03022).

Shapes: G probes, R rows, D dim, H hidden units, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import itertools
import math
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from tqdm import tqdm


class GridPoint(NamedTuple):
    """The settings of one probe; the defaults are the kit's."""

    hidden_layers: int = 1  # 0: a linear probe
    hidden_dim: int = 1024
    dropout: float = 0.1
    lr: float = 1e-3
    initialization: str = "xavier_uniform"
    batch_size: int = 1024
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    patience: int = 20  # validations without improvement before the end
    precision: str = "fp32"  # "bf16": of products of hidden layers only


# what probes that train together have in common
shape_of = operator.attrgetter(
    "hidden_layers", "hidden_dim", "dropout", "batch_size", "precision"
)
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
# what the kit changes for some tasks
TASK_GRIDS = {"dcase2016_task2": {"check_val_every_n_epoch": [10]}}
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
INITIALIZATIONS = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}
# of batch norm, in the order of torch's arguments
NORM = {"running_mean": 0.0, "running_var": 1.0, "scale": 1.0, "shift": 0.0}
WORDS = {
    "initialization": tuple(INITIALIZATIONS),
    "precision": ("fp32", "bf16"),
}


def check_axis(name: str, values: Any) -> None:
    """Refuse an axis of a grid that no probe can have."""
    if name in WORDS:
        wanted, is_good = f"words of {WORDS[name]}", WORDS[name].__contains__
    else:
        kind, low, high = LIMITS[name]
        wanted = f"{kind.__name__} from {low} to {high}"
        kinds = (int, float) if kind is float else kind

        def is_good(value: Any) -> bool:
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            return is_number and low <= value <= high

    is_list = isinstance(values, (list, tuple)) and len(values)
    if not is_list or not all(map(is_good, values)):
        raise ValueError(
            f"The grid has {name}={values}: it must be a list of {wanted}."
        )


def sample_grid(
    grid: Mapping[str, Sequence[Any]],
    task_name: str = "",
    num_points: Optional[int] = 8,
    task_grid: Optional[Mapping[str, Sequence[Any]]] = None,
) -> list[GridPoint]:
    """Choose the points of a grid that the kit would try, in its order.

    ``grid`` has values of some axes, such as one of ``GRIDS``; the task's name
    and ``task_specific_param_grid`` of its metadata may change them. All
    points with ``num_points`` None.
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


class ProbeBank:
    """Probes of one shape, as tensors [G, ...] that hold all of them.

    A probe is linear, batch norm, dropout and ReLU for each hidden layer, then
    a linear layer. vmap over such modules takes 1.7 times as long on a CPU
    with two hidden layers: batch norm transposes.
    """

    def __init__(self, points: Sequence[GridPoint], tensors: dict[str, Tensor]):
        self.points = list(points)
        self.tensors = tensors
        self.parameters = [
            tensor.requires_grad_()
            for name, tensor in tensors.items()
            if not name.startswith("running")
        ]

    @classmethod
    def draw(cls, points, dim, num_labels, generator, device="cpu"):
        """Draw the initial weights of probes, one probe after the other."""
        ((layers, hidden_dim, *_),) = set(map(shape_of, points))
        sizes, count, tensors = [dim, *[hidden_dim] * layers], len(points), {}
        for n, (size, units) in enumerate(zip(sizes, [*sizes[1:], num_labels])):
            tensors[f"weight{n}"] = torch.empty(count, units, size)
            tensors[f"bias{n}"] = torch.empty(count, units, 1)
            for name, value in NORM.items() if n < layers else ():
                tensors[f"{name}{n}"] = torch.full((count, units), value)
        for index, point in enumerate(points):
            initialize = INITIALIZATIONS[point.initialization]
            for n, size in enumerate(sizes):
                gain = math.sqrt(2) if n else 1.0  # behind a ReLU
                weight = tensors[f"weight{n}"][index]
                initialize(weight, gain, generator=generator)
                bound = 1 / math.sqrt(size)  # as of nn.Linear
                bias = tensors[f"bias{n}"][index]
                bias.uniform_(-bound, bound, generator=generator)
        return cls(points, {k: v.to(device) for k, v in tensors.items()})

    def __call__(self, rows: Tensor, training: bool = False) -> Tensor:
        """Compute the logits [G, R, L] of rows [R, D]."""
        layers, _, dropout, _, precision = shape_of(self.points[0])
        half = torch.autocast(
            rows.device.type, torch.bfloat16, enabled=precision == "bf16"
        )
        hidden = rows.T  # [D, R]; units lie before rows, as batch norm wants
        for n in range(layers):
            bias = self.tensors[f"bias{n}"]
            with half:
                product = self.tensors[f"weight{n}"] @ hidden
            hidden = product.to(bias.dtype) + bias  # [G, H, R]
            norm = [self.tensors[f"{name}{n}"].view(-1) for name in NORM]
            hidden = nn.functional.batch_norm(
                hidden.view(1, -1, len(rows)), *norm, training
            ).view(hidden.shape)
            if training and dropout:
                # no probe learns from another, so all may share one mask
                mask = torch.rand(hidden.shape[1:], device=hidden.device)
                mask = (mask >= dropout).to(hidden.dtype) / (1 - dropout)
                hidden = hidden * mask
            hidden = hidden.relu()
        logits = self.tensors[f"weight{layers}"] @ hidden
        return (logits + self.tensors[f"bias{layers}"]).transpose(1, 2)

    def select(self, indices: Sequence[int]) -> "ProbeBank":
        """Copy some of the probes into a bank of their own."""
        indices = list(indices)
        return ProbeBank(
            [self.points[index] for index in indices],
            {name: t.detach()[indices] for name, t in self.tensors.items()},
        )


class BankOptimizer:
    """Adam for a bank, with the learning rate of each probe."""

    def __init__(self, bank: ProbeBank):
        self.bank = bank
        self.views = [
            [parameter.detach()[index] for parameter in bank.parameters]
            for index in range(len(bank.points))
        ]
        groups = [
            {"params": views, "lr": point.lr}
            for views, point in zip(self.views, bank.points)
        ]
        self.adam = torch.optim.Adam(groups, fused=True)

    def step(self, rows: "Rows", multiclass: bool) -> None:
        """Take a step of all probes on a batch."""
        logits = self.bank(rows.embeddings, training=True)
        loss = probe_loss(logits, rows.targets, multiclass).sum()
        gradients = torch.autograd.grad(loss, self.bank.parameters)
        for index, views in enumerate(self.views):
            for view, gradient in zip(views, gradients):
                view.grad = gradient[index]
        self.adam.step()

    def select(self, indices: Sequence[int]) -> "BankOptimizer":
        """Keep some of the probes, as if the others had never been."""
        chosen = BankOptimizer(self.bank.select(indices))
        for views, index in zip(chosen.views, indices):
            for view, old in zip(views, self.views[index]):
                chosen.adam.state[view] = self.adam.state[old]
        return chosen


class Rows(NamedTuple):
    """Embeddings [R, D] and targets [R, L], 1 for the labels of a row."""

    embeddings: Tensor
    targets: Tensor


class TrainedProbe(NamedTuple):
    """A probe at its best validation."""

    point: GridPoint
    score: float  # higher is better
    epoch: int  # of that validation, counted from 0
    choice: Any  # by the validation, such as how events are found
    bank: ProbeBank  # of this probe alone


# From logits [R, L] of the validation rows to a score, where higher is better,
# and whatever was chosen on the way.
Validate = Callable[[Tensor], tuple[float, Any]]


def probe_loss(logits: Tensor, targets: Tensor, multiclass: bool) -> Tensor:
    """Compute the mean loss [G] of logits [G, R, L] over rows.

    Cross-entropy of the one label, or of each label by itself.
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
    """Turn logits [..., L] into probabilities."""
    return logits.softmax(dim=-1) if multiclass else logits.sigmoid()


def train_probes(
    points: Sequence[GridPoint],
    train: Rows,
    valid_embeddings: Tensor,
    validate: Validate,
    multiclass: bool,
    seed: int = 42,
) -> list[TrainedProbe]:
    """Train a probe for each point of a grid, in the order of the rows."""
    for point in points:
        for name, value in point._asdict().items():
            check_axis(name, [value])
        if point.max_epochs < point.check_val_every_n_epoch:
            raise ValueError(
                f"A probe of {point.max_epochs} epochs is never validated, "
                f"with check_val_every_n_epoch={point.check_val_every_n_epoch}."
            )
    torch.manual_seed(seed)  # of the dropout
    generator = torch.Generator().manual_seed(seed)
    trained: dict[int, TrainedProbe] = {}
    for shape in sorted(set(map(shape_of, points))):
        group = [
            n for n, point in enumerate(points) if shape_of(point) == shape
        ]
        bank = ProbeBank.draw(
            [points[index] for index in group],
            train.embeddings.shape[1],
            train.targets.shape[1],
            generator,
            train.embeddings.device,
        )
        probes = _train_bank(
            bank, train, valid_embeddings, validate, multiclass
        )
        trained.update(zip(group, probes))
    return [trained[index] for index in range(len(points))]


def _train_bank(bank, train, valid_embeddings, validate, multiclass):
    """Train probes of one shape together until the last one is done."""
    points, optimizer = bank.points, BankOptimizer(bank)
    batches = _batches(train, points[0].batch_size)
    best: list[Optional[TrainedProbe]] = [None] * len(points)
    waited = [0] * len(points)
    members = list(range(len(points)))  # of the bank
    epochs = range(max(point.max_epochs for point in points))
    for epoch in tqdm(epochs, "train probes", unit=" epochs", leave=False):
        for rows in batches:
            optimizer.step(rows, multiclass)
        logits, alive = None, []
        for place, index in enumerate(members):
            point = points[index]
            is_alive = epoch + 1 < point.max_epochs
            if (epoch + 1) % point.check_val_every_n_epoch == 0:
                if logits is None:
                    with torch.no_grad():
                        logits = optimizer.bank(valid_embeddings)
                score, choice = validate(logits[place])
                waited[index] += 1
                if not (finite := math.isfinite(score)):
                    score = -math.inf
                if best[index] is None or score > best[index].score:
                    found = score, epoch, choice, optimizer.bank.select([place])
                    best[index], waited[index] = TrainedProbe(point, *found), 0
                is_alive &= finite and waited[index] < point.patience
            if is_alive:
                alive.append(place)
        if not alive:
            break
        if len(alive) < len(members):
            members = [members[place] for place in alive]
            optimizer = optimizer.select(alive)
    return best


def _batches(train: Rows, batch_size: int) -> list[Rows]:
    """Cut rows into batches in their order; none of a single row."""
    num_rows = len(train.embeddings)
    count = max(math.ceil((num_rows - 1) / batch_size), 1)
    sizes = [batch_size] * (count - 1)
    sizes.append(num_rows - sum(sizes))
    return [Rows(*pair) for pair in zip(*(x.split(sizes) for x in train))]
