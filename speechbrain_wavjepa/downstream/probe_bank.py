"""Probes of one shape, trained together as one batched model.

Each probe keeps its own initialisation, learning rate, best weights and end
of training; what they share is the pass through the rows.

Source: the shallow networks of the HEAR kit
(https://arxiv.org/abs/2203.03022): linear, batch norm, dropout and ReLU for
each hidden layer, then a linear layer.

Shapes: G probes, R rows, D dim, H hidden units, L labels.

Authors
 * The speechbrain_wavjepa developers 2026
"""

import math
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from speechbrain_wavjepa.downstream.grid import GridPoint

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
