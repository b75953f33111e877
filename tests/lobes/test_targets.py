"""The target encoder's average and its normalisation."""

import numpy as np
import pytest
import torch

from speechbrain_wavjepa.lobes import TargetEncoder
from speechbrain_wavjepa.nnet import TransformerEncoder


def make(top_k_layers=2, target_norm="joint"):
    """Make a small encoder and its target encoder."""
    context_encoder = TransformerEncoder(12, 3, 3).double()
    return context_encoder, TargetEncoder(
        context_encoder, top_k_layers, target_norm
    )


def test_update_follows_the_closed_form():
    context_encoder, target_encoder = make()
    start = [p.clone() for p in target_encoder.encoder.parameters()]
    with torch.no_grad():
        for parameter in context_encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    for _ in range(100):
        target_encoder.update(context_encoder, 0.97)
    weight = 0.97**100
    for old, new, ours in zip(
        start,
        context_encoder.parameters(),
        target_encoder.encoder.parameters(),
    ):
        expected = weight * old + (1 - weight) * new
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_extreme_decays(decay):
    context_encoder, target_encoder = make()
    start = [p.clone() for p in target_encoder.encoder.parameters()]
    with torch.no_grad():
        for parameter in context_encoder.parameters():
            parameter.add_(1.0)
    target_encoder.update(context_encoder, decay)
    kept = start if decay == 1.0 else list(context_encoder.parameters())
    for ours, expected in zip(target_encoder.encoder.parameters(), kept):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-15)


def test_no_gradient_reaches_the_target_encoder():
    context_encoder, target_encoder = make()
    tokens = torch.randn(2, 10, 12, requires_grad=True).double()
    assert not target_encoder(tokens).requires_grad
    assert not any(p.requires_grad for p in target_encoder.parameters())
    assert all(p.requires_grad for p in context_encoder.parameters())


@pytest.mark.parametrize("target_norm", ["joint", "feature"])
def test_layers_are_normalised_before_the_average(target_norm):
    context_encoder, target_encoder = make(2, target_norm)
    tokens = torch.randn(4, 10, 12).double()
    axes = (1, 2) if target_norm == "joint" else (1,)
    expected = 0
    for output in list(context_encoder.layer_outputs(tokens))[-2:]:
        output = output.detach().numpy()
        mean = output.mean(axis=axes, keepdims=True)
        variance = output.var(axis=axes, keepdims=True)
        expected = expected + (output - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(
        target_encoder(tokens).numpy(), expected / 2, rtol=0, atol=1e-11
    )


def test_one_layer_is_not_normalised():
    context_encoder, target_encoder = make(1)
    tokens = torch.randn(2, 10, 12).double()
    *_, last = context_encoder.layer_outputs(tokens)
    assert torch.equal(target_encoder(tokens), last.detach())


def test_targets_are_float32_under_autocast():
    encoder = TransformerEncoder(12, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        targets = TargetEncoder(encoder, 2)(torch.randn(2, 10, 12))
    assert targets.dtype == torch.float32


@pytest.mark.parametrize(
    "top_k_layers, target_norm, message",
    [(4, "joint", "top_k_layers=4.*3"), (0, "joint", "0"), (2, "both", "both")],
)
def test_impossible_settings_are_refused(top_k_layers, target_norm, message):
    with pytest.raises(ValueError, match=message):
        make(top_k_layers, target_norm)
