"""A ViT-B model against the authors' code, weights from an integer recipe."""

import zlib

import numpy as np
import torch
from official import build_model, read_json, read_masks, read_numbers

from speechbrain_wavjepa.integrations import (
    map_official_state,
    map_to_official_state,
)
from speechbrain_wavjepa.lobes import masked_mse

SETTINGS = {
    "conv_layers_spec": [
        [512, 10, 5],
        [512, 3, 2],
        [512, 3, 2],
        [512, 3, 2],
        [512, 3, 2],
        [512, 2, 2],
    ],
    "in_channels": 1,
    "encoder": {"d_model": 768, "num_layers": 12, "nhead": 12},
    "decoder": {"d_model": 384, "num_layers": 12, "nhead": 12},
    "average_top_k_layers": 8,
}


def make_values(key, count, seed):
    """Hash the index of each element to a number in (-1, 1)."""
    mask = np.uint64(0xFFFFFFFF)
    start = (zlib.crc32(key.encode()) * 2246822519 + seed * 3266489917) % 2**32
    values = np.arange(count, dtype=np.uint64) * np.uint64(2654435761)
    values = (values + np.uint64(start)) & mask
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        values ^= values >> np.uint64(shift)
        values = (values * np.uint64(factor)) & mask
    values ^= values >> np.uint64(16)
    return (values.astype(np.float64) + 0.5) / 2**31 - 1


def make_weight(key, like, seed):
    """Scale the hashed numbers as the recipe says, rounded to float32."""
    values = make_values(key, like.numel(), seed)
    if key == "mask_token":
        values = 0.5 * values
    elif like.dim() == 3:
        values = np.sqrt(6 / (like.shape[1] * like.shape[2])) * values
    elif like.dim() == 2:
        values = np.sqrt(3 / like.shape[1]) * values
    elif key.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values.astype(np.float32)).view(like.shape)


def test_full_size_model():
    numbers, expected = read_numbers("full_size"), read_json("full_size")
    model = build_model(SETTINGS)
    official = {
        key: make_weight(key, value, expected["seed"])
        for key, value in map_to_official_state(model.state_dict()).items()
    }
    for key, first in expected["weight_first3"].items():
        if key in official:
            assert official[key].flatten()[:3].tolist() == first
    model.load_state_dict(map_official_state(official))
    model.double()
    values = make_values("audio", expected["audio_samples"], expected["seed"])
    waveform = torch.from_numpy((np.sqrt(3) * values).astype(np.float32))
    assert torch.equal(waveform[:8], numbers["audio_first8"])
    waveform = waveform.double().view(1, -1, 1)

    output = model(waveform, read_masks(numbers, model))
    loss = masked_mse(output.prediction, output.target, output.mask)
    loss.backward()

    def close(ours, theirs):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)

    close(loss.detach(), numbers["out.loss"].squeeze())
    rows = numbers["row_index"]
    with torch.no_grad():
        tokens = model.frontend(waveform)
        local = model._embed(tokens)
        projected = model.predictor.input_projection(output.context)
    close(tokens[0, rows], numbers["out.extractor_features.rows"])
    close(local[0, rows], numbers["out.local_features.rows"])
    close(output.target[0, rows], numbers["out.targets.rows"])
    close(projected[:4], numbers["out.contextual_features.first4"])
    # predictions exist at target tokens only
    place = {
        (block, token): row
        for row, (_, block, token) in enumerate(
            output.mask.target_masks.nonzero().tolist()
        )
    }
    compared = 0
    for index, (block, token) in enumerate(numbers["pred_row_index"].tolist()):
        if (block, token) in place:
            ours = output.prediction[place[block, token]].detach()
            close(ours, numbers["out.preds.rows"][index])
            compared += 1
    assert compared > 0
    for ours, key in (
        (tokens, "extractor_sum_sq"),
        (local, "local_sum_sq"),
        (output.target, "targets_sum_sq"),
    ):
        np.testing.assert_allclose(
            ours.square().sum().item(), expected[key], rtol=1e-10
        )
    norms = map_official_state(expected["grad_norm"])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            np.testing.assert_allclose(
                parameter.grad.norm().item(), norms.pop(name), rtol=1e-9
            )
    assert not norms
