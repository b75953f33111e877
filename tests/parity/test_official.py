"""The model against numbers computed with the authors' code, in float64."""

import pytest
import torch
from official import (
    STRIDE,
    build_model,
    read_json,
    read_masks,
    read_numbers,
    select,
)

from speechbrain_wavjepa.integrations import (
    map_official_state,
    map_to_official_state,
)
from speechbrain_wavjepa.lobes import masked_mse
from speechbrain_wavjepa.nnet import EMADecay, WarmupCosine
from speechbrain_wavjepa.nnet.positions import channel_time_positions

CASES = ("mono_tiny", "binaural_tiny")
FLOAT64 = {"rtol": 0, "atol": 1e-10}  # against numbers stored in float64
FLOAT32 = {"rtol": 1e-6, "atol": 1e-6}  # against numbers stored in float32


def close(ours, theirs, tolerance):
    """Assert closeness after widening the stored numbers."""
    torch.testing.assert_close(ours, theirs.to(ours.dtype), **tolerance)


@pytest.fixture(params=CASES)
def case(request):
    """The numbers of a case and a model with the authors' weights."""
    numbers = read_numbers(request.param)
    model = build_model(read_json(request.param))
    model.load_state_dict(select(numbers, "state."))
    return numbers, model.double()


def run(numbers, model):
    """Run one forward pass on the stored batch."""
    waveform = numbers["input.audio"].double().transpose(1, 2)
    output = model(waveform, read_masks(numbers, model))
    loss = masked_mse(output.prediction, output.target, output.mask)
    return waveform, output, loss


def test_stages_and_loss(case):
    numbers, model = case
    waveform, output, loss = run(numbers, model)
    with torch.no_grad():
        tokens = model.frontend(waveform)
        local = model._embed(tokens)
        projected = model.predictor.input_projection(output.context)
    close(tokens[:, ::STRIDE], numbers["out.extractor_features"], FLOAT32)
    close(local[:, ::STRIDE], numbers["out.local_features"], FLOAT64)
    close(output.target[:, ::STRIDE], numbers["out.targets"], FLOAT64)
    close(projected, numbers["out.contextual_features"], FLOAT64)
    close(output.prediction.detach(), numbers["out.preds"], FLOAT32)
    close(loss.detach(), numbers["out.loss"].squeeze(), FLOAT64)


def test_all_gradients(case):
    numbers, model = case
    run(numbers, model)[2].backward()
    expected = select(numbers, "grad.")
    norms = select(numbers, "norm.grad.")
    trainable = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert set(trainable) == set(expected) == set(norms)
    for name, gradient in trainable.items():
        close(gradient.flatten()[::STRIDE], expected[name], FLOAT32)
        # norms of gradients that were rounded to float32 before
        close(gradient.norm(), norms[name], {"rtol": 1e-6, "atol": 1e-10})


def test_five_training_steps(case):
    """The authors' order: the target encoder moves before the weights."""
    numbers, model = case
    start = {key: value.clone() for key, value in model.state_dict().items()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=4e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.04
    )
    ema_decay = EMADecay()
    for step in range(5):
        loss = run(numbers, model)[2]
        decay = ema_decay(step)
        assert decay == pytest.approx(numbers["traj.ema_decay"][step].item())
        model.target_encoder.update(model.context_encoder, decay)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trainable, 5.0)
        optimizer.step()
        close(loss.detach(), numbers["traj.losses"][step], FLOAT64)
        close(norm, numbers["traj.grad_norm_before_clip"][step], FLOAT64)
    changes = select(numbers, "traj.delta.")
    norms = select(numbers, "norm.traj.delta.")
    end = model.state_dict()
    assert set(changes) == set(end)
    for name, change in changes.items():
        ours = end[name] - start[name]
        close(ours.flatten()[::STRIDE], change, {"rtol": 1e-6, "atol": 1e-9})
        close(ours.norm(), norms[name], {"rtol": 1e-6, "atol": 1e-9})


@pytest.mark.parametrize("name", CASES)
def test_key_map_is_strict_both_ways(name):
    official = {
        key.removeprefix("state."): value
        for key, value in read_numbers(name).items()
        if key.startswith("state.")
    }
    ours = map_official_state(official)
    model = build_model(read_json(name))
    assert set(ours) == set(model.state_dict())
    back = map_to_official_state(ours)
    assert set(back) == set(official)
    for key, value in back.items():
        assert torch.equal(value, official[key])


@pytest.mark.parametrize("name", CASES)
def test_float32_is_close_to_float64(name):
    numbers = read_numbers(name)
    model = build_model(read_json(name))
    model.load_state_dict(select(numbers, "state."))
    waveform = numbers["input.audio"].transpose(1, 2)
    output = model(waveform, read_masks(numbers, model))
    assert output.target.dtype == torch.float32
    close(
        output.prediction.detach(),
        numbers["out.preds"],
        {"rtol": 0, "atol": 2e-5},
    )


def test_position_tables():
    numbers = read_numbers("positions")
    checked = 0
    for key, table in numbers.items():
        shape, kind = key.split(".")
        channels = 2 if shape.startswith("binaural") else 1
        num_tokens, dim = (int(n) for n in shape.split("_")[1].split("x"))
        if kind == "row_index":
            continue
        ours = channel_time_positions(num_tokens // channels, dim, channels)
        if kind == "rows_f64":
            rows = numbers[f"{shape}.row_index"]
            ours, tolerance = ours.double()[rows], {"rtol": 0, "atol": 6e-8}
        else:
            tolerance = {"rtol": 0, "atol": 6e-8}
        close(ours, table, tolerance)
        checked += 1
    assert checked == 4


def test_schedules():
    values = read_json("schedules")
    ema_decay = EMADecay()
    for step, decay in values["ema"].items():
        assert ema_decay(int(step)) == pytest.approx(decay, rel=1e-12)
    learning_rate = WarmupCosine(4e-4, 100000, 375000)
    for step, value in values["lr"].items():
        if int(step) <= 375000:  # behind the end ours stays at the final rate
            assert learning_rate(int(step)) == pytest.approx(
                value, rel=1e-9, abs=1e-18
            )
    assert learning_rate(400000) == 0.0
