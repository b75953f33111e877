"""Probes: the kit's grid, and training many as training each."""

import numpy as np
import pytest
import torch
from torch import nn

from speechbrain_wavjepa.evaluation import probes as probe_training
from speechbrain_wavjepa.evaluation.probes import (
    GRIDS,
    BankOptimizer,
    GridPoint,
    ProbeBank,
    Rows,
    probe_loss,
    sample_grid,
    train_probes,
)


def test_the_kit_s_points():
    """Recorded from the kit (in its order, which the seed 42 fixes)."""
    points = [
        (p.hidden_layers, p.initialization[7], p.lr)
        for p in sample_grid(GRIDS["default"])
    ]
    assert points == [
        (1, "n", 1e-4),
        (2, "u", 1e-3),
        (1, "n", 1e-3),
        (1, "n", 3.2e-4),
        (2, "n", 3.2e-4),
        (2, "u", 3.2e-4),
        (2, "n", 3.2e-3),
        (2, "u", 3.2e-3),
    ]
    points = sample_grid(GRIDS["fast"], "dcase2016_task2")
    assert [
        (p.hidden_layers, p.initialization[7], p.lr, p.max_epochs)
        for p in points
    ] == [
        (2, "n", 1e-3, 10),
        (1, "u", 3.2e-4, 50),
        (1, "n", 1e-3, 10),
        (1, "n", 1e-4, 50),
        (2, "n", 3.2e-3, 50),
        (1, "n", 1e-3, 50),
        (2, "u", 1e-4, 10),
        (1, "u", 1e-4, 10),
    ]
    assert {point.check_val_every_n_epoch for point in points} == {10}
    assert [len(sample_grid(grid, "", None)) for grid in GRIDS.values()] == [
        16,
        64,
        64,
    ]
    with pytest.raises(ValueError, match=r"Unknown axes \['width'\]"):
        sample_grid({"width": [1]})


def build_alone(bank, index):
    """Write one probe of a bank as the layers that the kit stacks."""
    point, layers = bank.points[index], []
    for layer in range(point.hidden_layers + 1):
        weight = bank.tensors[f"weight{layer}"].detach()[index]
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data = weight.clone()
        bias = bank.tensors[f"bias{layer}"].detach()[index, :, 0]
        linear.bias.data = bias.clone()
        layers.append(linear)
        if layer < point.hidden_layers:
            layers += [
                nn.BatchNorm1d(point.hidden_dim),
                nn.Dropout(point.dropout),
                nn.ReLU(),
            ]
    return nn.Sequential(*layers)


def draw(points, dim=6, num_labels=4):
    generator = torch.Generator().manual_seed(0)
    return ProbeBank.draw(points, dim, num_labels, generator)


def make_rows(num_rows=50, dim=6, num_labels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_rows) % num_labels
    centres = torch.randn(num_labels, dim, generator=generator)
    noise = torch.randn(num_rows, dim, generator=generator)
    return Rows(centres[labels] + 0.8 * noise, torch.eye(num_labels)[labels])


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize("multiclass", [True, False])
def test_a_bank_trains_as_each_probe_alone(hidden_layers, multiclass):
    points = [GridPoint(hidden_layers, 8, 0.0, lr) for lr in (1e-2, 1e-3, 3e-3)]
    train = make_rows()
    single = draw(points)
    bank = ProbeBank(
        points,
        {name: t.detach().double() for name, t in single.tensors.items()},
    )
    alone = [build_alone(bank, index).double() for index in range(3)]
    rows = Rows(train.embeddings.double(), train.targets.double())
    optimizer = BankOptimizer(bank)
    for _ in range(20):
        optimizer.step(rows, multiclass)
    for probe, point, index in zip(alone, points, range(3)):
        optimizer = torch.optim.Adam(probe.parameters(), lr=point.lr)
        for _ in range(20):
            logits = probe(rows.embeddings)
            if multiclass:
                loss = nn.functional.cross_entropy(
                    logits, rows.targets.argmax(dim=1)
                )
            else:
                loss = nn.functional.binary_cross_entropy_with_logits(
                    logits, rows.targets
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        probe.eval()
        torch.testing.assert_close(
            bank(rows.embeddings)[index],
            probe(rows.embeddings),
            rtol=1e-6,
            atol=1e-8,
        )


def test_initial_weights_have_the_kit_s_gains():
    points = [
        GridPoint(2, 400, initialization=name)
        for name in ("xavier_uniform", "xavier_normal")
    ]
    bank = draw(points, 300, 200)
    for layer, (size, next_size) in enumerate(
        ((300, 400), (400, 400), (400, 200))
    ):
        gain = 2**0.5 if layer else 1.0
        expected = gain * (2 / (size + next_size)) ** 0.5
        for weight in bank.tensors[f"weight{layer}"]:
            assert weight.std().item() == pytest.approx(expected, rel=0.02)
        largest = bank.tensors[f"weight{layer}"].abs().amax(dim=(1, 2))
        uniform, normal = largest
        assert uniform <= expected * 3**0.5 < normal


def test_the_first_best_validation_wins_and_patience_ends():
    """Scores are scripted: every probe sees the same sequence."""
    scores = iter([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.3, 0.9])
    seen = []

    def validate(logits):
        seen.append(logits.clone())
        return next(scores), len(seen)

    point = GridPoint(1, 8, patience=3, check_val_every_n_epoch=2)
    rows = make_rows()
    (probe,) = train_probes([point], rows, rows.embeddings, validate, True)
    assert len(seen) == 5  # two, then three without improvement
    assert (probe.score, probe.epoch, probe.choice) == (0.7, 3, 2)
    with torch.no_grad():
        torch.testing.assert_close(probe.bank(rows.embeddings)[0], seen[1])


def test_a_score_that_is_not_a_number_ends_a_probe():
    calls = []

    def validate(logits):
        calls.append(1)
        return float("nan"), None

    rows = make_rows()
    (probe,) = train_probes(
        [GridPoint(1, 8)], rows, rows.embeddings, validate, True
    )
    assert len(calls) == 1 and probe.score == -np.inf


def test_max_epochs_and_points_that_are_never_validated():
    rows = make_rows()
    calls = []

    def validate(logits):
        calls.append(1)
        return float(len(calls)), None

    point = GridPoint(0, max_epochs=7, check_val_every_n_epoch=3)
    (probe,) = train_probes([point], rows, rows.embeddings, validate, True)
    assert len(calls) == 2 and probe.epoch == 5
    with pytest.raises(ValueError, match="is never validated"):
        train_probes(
            [GridPoint(max_epochs=2)], rows, rows.embeddings, validate, True
        )


@pytest.mark.parametrize("num_rows", [1, 9, 10, 11, 20, 21])
def test_no_batch_has_a_single_row(num_rows):
    rows = Rows(torch.arange(num_rows)[:, None], torch.zeros(num_rows, 1))
    batches = probe_training._batches(rows, 10)
    joined = torch.cat([batch.embeddings for batch in batches])
    assert torch.equal(joined, rows.embeddings)
    if num_rows > 1:
        assert all(len(batch.embeddings) > 1 for batch in batches)


def test_points_of_several_shapes_keep_their_order():
    rows = make_rows()

    def validate(logits):
        right = logits.argmax(dim=1) == rows.targets.argmax(dim=1)
        return right.double().mean().item(), None

    points = [
        GridPoint(layers, 8, lr=lr, max_epochs=60)
        for layers, lr in ((2, 1e-2), (0, 1e-2), (1, 1e-3), (0, 1e-4))
    ]
    probes = train_probes(points, rows, rows.embeddings, validate, True)
    assert [probe.point for probe in probes] == points
    assert min(probe.score for probe in probes[:2]) > 0.7  # chance: 0.25


def test_a_probe_ends_as_if_it_were_alone():
    """Others that end before change neither its Adam nor its dropout."""
    rows = make_rows()

    def train(points):
        losses = []

        def validate(logits):
            loss = probe_loss(logits[None], rows.targets, True).item()
            losses.append(loss)
            return -loss, None

        return train_probes(points, rows, rows.embeddings, validate, True)

    short = GridPoint(1, 8, 0.1, 1e-2, max_epochs=6)
    long = GridPoint(1, 8, 0.1, 1e-3, max_epochs=60)
    probe, _ = train([long, short])
    (alone,) = train([long])
    assert probe.epoch == alone.epoch == 59
    torch.testing.assert_close(
        probe.bank(rows.embeddings), alone.bank(rows.embeddings)
    )
    twins = train([short, short._replace(), long])
    assert [twin.epoch for twin in twins] == [5, 5, 59]


def test_half_precision_is_for_products_only():
    rows = make_rows()
    banks = [
        draw([GridPoint(2, 64, 0.0, precision=precision)])
        for precision in ("fp32", "bf16")
    ]
    logits = []
    for bank in banks:
        logits.append(bank(rows.embeddings))
        probe_loss(logits[-1], rows.targets, True).sum().backward()
        assert {p.grad.dtype for p in bank.parameters} == {torch.float32}
    difference = (logits[0] - logits[1]).norm() / logits[0].norm()
    assert 1e-5 < difference < 0.03


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"hidden_dim": [10**12]}, "from 1 to 65536"),
        ({"max_epochs": [10**9]}, "from 1 to 100000"),
        ({"lr": [float("nan")]}, "lr=.nan.: it must be a list of float"),
        ({"lr": 0.1}, "must be a list"),
        ({"hidden_layers": [True]}, "must be a list of int"),
        ({"initialization": ["zeros"]}, "must be a list of words of .'xavier"),
        ({"precision": ["fp16"]}, "must be a list of words of .'fp32', 'bf16'"),
        (
            {"lr": [0.1] * 100, "dropout": [0.1] * 100, "patience": [1] * 9},
            "over 10000 points",
        ),
    ],
)
def test_an_absurd_grid_of_a_task_is_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        sample_grid({}, task_grid=axes)
