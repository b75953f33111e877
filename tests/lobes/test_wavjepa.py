"""The whole model against the dense reference."""

import numpy as np
import pytest
import torch
from dense_reference import DenseReference

from speechbrain_wavjepa.integrations import map_official_state
from speechbrain_wavjepa.lobes import (
    BlockMasker,
    ConvFrontend,
    Predictor,
    TargetEncoder,
    WavJEPA,
    masked_mse,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

LAYERS = [[8, 10, 5], [8, 4, 4], [8, 8, 8]]  # 60 tokens from 9,640 samples
SAMPLES = 9640


def make_model(channels=1, device="cpu"):
    """Make a small model whose parts all matter."""
    torch.manual_seed(1)
    encoder = TransformerEncoder(24, 3, 3)
    model = WavJEPA(
        ConvFrontend(8, LAYERS, channels),
        encoder,
        TargetEncoder(encoder, 2),
        Predictor(24, 16, 2, 2),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.double().to(device)


def make_batch(channels=1, device="cpu", num_windows=5):
    """Make windows and masks."""
    generator = torch.Generator().manual_seed(2)
    masker = BlockMasker(target_span=5, context_drop_span=5)
    frontend = ConvFrontend(8, LAYERS, channels)
    mask = masker(
        num_windows, 60, channels, generator, frontend.find_gradient_rows
    )
    waveform = torch.randn(
        num_windows, SAMPLES, channels, generator=generator
    ).double()
    return waveform.to(device), mask.to(device)


def compute_loss(model, batch):
    """Run the forward pass and the loss."""
    output = model(*batch)
    return output, masked_mse(output.prediction, output.target, output.mask)


def close(ours, theirs, rtol=0, atol=1e-12):
    """Assert closeness in float64."""
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("channels", [1, 2])
def test_equals_the_dense_reference(channels, device):
    model = make_model(channels, device)
    batch = make_batch(channels, device)
    reference = DenseReference(model).double().to(device)
    output, loss = compute_loss(model, batch)
    expected, predictions, targets = reference(*batch)
    masks = batch[1].target_masks.to(device)
    close(loss, expected, rtol=1e-12, atol=0)
    close(output.target, targets)
    close(output.prediction, predictions[masks])
    loss.backward()
    expected.backward()
    gradients = map_official_state(
        {
            name: parameter.grad
            for name, parameter in reference.named_parameters()
            if parameter.requires_grad
        }
    )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            close(parameter.grad, gradients[name], rtol=1e-10, atol=1e-13)


def test_every_trainable_parameter_has_a_gradient():
    model = make_model()
    compute_loss(model, make_batch())[1].backward()
    for name, parameter in model.named_parameters():
        if name.startswith("target_encoder."):
            assert parameter.grad is None
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_loss_is_a_mean_over_target_tokens():
    output, loss = compute_loss(make_model(), make_batch())
    prediction, errors = output.prediction.detach().numpy(), []
    for row, (window, _, token) in enumerate(
        output.mask.target_masks.nonzero().tolist()
    ):
        difference = prediction[row] - output.target[window, token].numpy()
        errors.append((difference**2).mean())
    np.testing.assert_allclose(loss.item(), np.mean(errors), rtol=1e-12)


def test_hidden_sound_cannot_change_the_prediction():
    """A front-end without GroupNorm, whose statistics see all samples."""
    model, (waveform, mask) = make_model(), make_batch()
    tokens = torch.randn(5, 60, 8).double()

    class Fixed(torch.nn.Module):
        dim, channels = 8, 1

        def num_tokens(self, num_samples):
            return 60

        def forward(self, waveform, gradient_rows=None):
            return tokens

    model.frontend = Fixed()
    before = model(waveform, mask).prediction
    tokens = torch.where(mask.context_mask[:, :, None], tokens, tokens + 10)
    output = model(waveform, mask)
    assert torch.equal(output.prediction, before)


def test_encode_keeps_what_it_should(device):
    model = make_model(device=device)
    waveform, mask = make_batch(device=device)
    keep_mask = mask.context_mask
    encoded = model.encode(waveform, keep_mask).detach()
    assert torch.all(encoded[~keep_mask.to(device)] == 0)
    output = model(waveform, mask)
    close(encoded[keep_mask.to(device)], output.context)
    everything = torch.ones_like(keep_mask)
    close(model.encode(waveform, everything), model.encode(waveform))


def test_bf16_keeps_targets_and_loss_in_float32(device):
    model = make_model(device=device).float()
    waveform, mask = make_batch(device=device)
    exact = compute_loss(model, (waveform.float(), mask))[1]
    with torch.autocast(device.type, torch.bfloat16):
        output, loss = compute_loss(model, (waveform.float(), mask))
    assert output.target.dtype == loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    loss.backward()
    for parameter in model.parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all()


def test_state_dict_keys_are_a_contract():
    expected = {"predictor.mask_token"}
    modules = ["token_norm", "token_projection"]
    modules += ["predictor.input_projection", "predictor.output_projection"]
    for encoder, depth in (
        ("context_encoder", 3),
        ("target_encoder.encoder", 3),
        ("predictor.encoder", 2),
    ):
        modules.append(f"{encoder}.norm")
        for part in (
            *("attention.query_key_value", "attention.projection"),
            *("mlp.0", "mlp.2", "norm1", "norm2"),
        ):
            modules += [f"{encoder}.layers.{i}.{part}" for i in range(depth)]
    for ear in range(2):
        stack = f"frontend.stacks.{ear}"
        modules.append(f"{stack}.norm")
        expected |= {f"{stack}.layers.{layer}.weight" for layer in range(3)}
    expected |= {f"{m}.{kind}" for m in modules for kind in ("weight", "bias")}
    assert set(make_model(channels=2).state_dict()) == expected


def test_masks_that_do_not_fit_are_refused():
    model, (waveform, _) = make_model(), make_batch()
    with pytest.raises(ValueError, match="num_tokens=60"):
        model(waveform, BlockMasker()(5, 200))


def test_unknown_keys_are_refused():
    with pytest.raises(ValueError, match="wav2vec.weight"):
        map_official_state({"wav2vec.weight": torch.zeros(1)})
