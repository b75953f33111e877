"""Makes files as the authors write them, and folders as strangers do."""

import re

import torch
from torch import nn

from speechbrain_wavjepa.inference.config import build_wavjepa
from speechbrain_wavjepa.integrations import map_to_official_state
from speechbrain_wavjepa.integrations.official import make_tables
from speechbrain_wavjepa.utils.files import hash_file

STACK = {"enable_nested_tensor": False, "mask_check": True}
SETTINGS = {
    "share_weights": False,
    "frontend_dim": 8,
    "frontend_layers": [[8, 10, 5], *[[8, 3, 2]] * 4, [8, 2, 2]],
    "encoder_dim": 16,
    "encoder_depth": 3,
    "encoder_heads": 4,
    "encoder_mlp_ratio": 2.0,
    "encoder_norm_first": False,
    "top_k_layers": 2,
    "target_norm": "joint",
    "predictor_dim": 8,
    "predictor_depth": 1,
    "predictor_heads": 2,
    "predictor_mlp_ratio": 3.0,
    "sample_rate": 16000,
    "window_samples": 32160,
}


def make_model(channels=1):
    """Make a model whose weights all differ."""
    torch.manual_seed(channels)
    settings = {**SETTINGS, "channels": channels}
    model = build_wavjepa(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, settings


def official_weights(model, settings, infix=""):
    """Name weights as the authors do; compiled parts have an infix."""
    state = {
        **make_tables(settings),
        **map_to_official_state(model.state_dict()),
    }
    for part in ("extract_audio.", "encoder.", "decoder."):
        state = {
            key.replace(part, part + infix, 1)
            if key.startswith(part)
            else key: value
            for key, value in state.items()
        }
    return state


def hyper_parameters(activation=None):
    """Write what Lightning keeps of the authors' constructor."""
    activation = activation or nn.GELU()
    layer = {"batch_first": True, "norm_first": False, "bias": True}
    layer |= {"dropout": 0.0, "activation": activation, "layer_norm_eps": 1e-6}
    return {
        "transformer_encoder_layers_cfg": {
            **{"d_model": 16, "nhead": 4, "dim_feedforward": 32},
            **layer,
        },
        "transformer_encoder_cfg": {"num_layers": 3, **STACK},
        "transformer_decoder_layers_cfg": {
            **{"d_model": 8, "nhead": 2, "dim_feedforward": 24},
            **layer,
        },
        "transformer_decoder_cfg": {"num_layers": 1, **STACK},
        "average_top_k_layers": 2,
        "resample_sr": 16000,
        "process_audio_seconds": 2.01,
        "size": "base",
    }


def write_checkpoint(path, weights, options=None, **more):
    """Write a Lightning checkpoint."""
    if options is None:
        options = hyper_parameters()
    torch.save(
        {
            "epoch": 1,
            "state_dict": weights,
            "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}}],
            "hyper_parameters": options,
            **more,
        },
        path,
    )
    return path


def assert_same(model, other):
    """Compare all weights of two models."""
    state = model.state_dict()
    assert set(state) == set(other.state_dict())
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key]), key


def sign(folder):
    """Give a pretrained folder the checksums of the files that it has."""
    path = folder / "hyperparams.yaml"
    text = path.read_text()
    for file in folder.glob("*.ckpt"):
        text = re.sub(
            rf"\b({file.stem}: )[0-9a-f]{{64}}",
            rf"\g<1>{hash_file(file)}",
            text,
        )
    path.write_text(text)
