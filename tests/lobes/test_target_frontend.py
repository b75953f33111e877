"""A target encoder that gets the tokens of an averaged front-end."""

import pytest
import torch

from speechbrain_wavjepa.lobes import (
    BlockMasker,
    ConvFrontend,
    LeafFrontend,
    Predictor,
    TargetEncoder,
    WavJEPA,
    masked_mse,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

FRONTENDS = {
    "conv": lambda: ConvFrontend(8, [[8, 10, 5], [8, 48, 32]]),
    "leaf": lambda: LeafFrontend(8, 12, filter_stride=4),
}


def make(frontend, target_frontend):
    """Make a small model."""
    torch.manual_seed(0)
    encoder = TransformerEncoder(24, 2, 3)
    return WavJEPA(
        FRONTENDS[frontend](),
        encoder,
        TargetEncoder(encoder, 2),
        Predictor(24, 16, 1, 2),
        target_frontend,
    ).double()


def make_batch(model):
    """Make windows and masks."""
    torch.manual_seed(1)
    waveform = torch.randn(3, 9700, 1).double()
    find_gradient_rows = model.frontend.find_gradient_rows
    masker = BlockMasker(target_span=5, context_drop_span=5)
    return waveform, masker(3, 60, 1, None, find_gradient_rows)


def train(model, batch):
    """Compute the loss and all gradients."""
    output = model(*batch)
    loss = masked_mse(output.prediction, output.target, output.mask)
    loss.backward()
    return loss, {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_loss_and_gradients_are_the_same_before_the_first_update(frontend):
    shared, averaged = make(frontend, "shared"), make(frontend, "ema")
    batch = make_batch(shared)
    loss, gradients = train(shared, batch)
    same, others = train(averaged, batch)
    assert torch.equal(loss, same)
    assert set(gradients) == set(others)  # none in the target front-end
    for name, gradient in gradients.items():
        assert torch.equal(gradient, others[name]), name


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_updates_follow_the_closed_form(frontend):
    model = make(frontend, "ema")
    start = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    for _ in range(100):
        model.update_target(0.97)
    state, weight = model.state_dict(), 0.97**100
    moved = 0
    for name, ours in state.items():
        prefix, _, rest = name.partition(".")
        if prefix in ("target_frontend", "target_encoder"):
            rest = rest.replace("encoder.", "context_encoder.", 1)
            expected = weight * start[name] + (1 - weight) * state[rest]
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
            moved += 1
    assert moved > 20


def test_the_target_follows_its_own_front_end():
    model = make("conv", "ema")
    batch = make_batch(model)
    before = model(*batch)
    with torch.no_grad():
        model.frontend.stacks[0].layers[0].weight.mul_(-1)
    after = model(*batch)
    assert torch.equal(after.target, before.target)
    assert not torch.equal(after.prediction, before.prediction)


def test_its_state_is_saved_and_strict():
    model, other = make("leaf", "ema"), make("leaf", "ema")
    with torch.no_grad():
        for parameter in model.target_frontend.parameters():
            parameter.add_(0.1)
    other.load_state_dict(model.state_dict())
    batch = make_batch(model)
    assert torch.equal(other(*batch).target, model(*batch).target)
    with pytest.raises(RuntimeError, match="target_frontend"):
        make("leaf", "shared").load_state_dict(model.state_dict())


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="target_frontend='own'"):
        make("conv", "own")
