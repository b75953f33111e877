"""Reads the numbers of the authors' code and builds models for them."""

import json
from pathlib import Path

import numpy as np
import torch

from speechbrain_wavjepa.integrations import map_official_state
from speechbrain_wavjepa.lobes import (
    ConvFrontend,
    JEPAMask,
    Predictor,
    TargetEncoder,
    WavJEPA,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

FOLDER = Path(__file__).parent
STRIDE = 17  # every 17th token or element was kept


def read_numbers(name):
    """Read the tensors of one file."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def read_json(name):
    """Read one json file."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def build_model(settings):
    """Build WavJEPA from the authors' settings."""
    layers = settings["conv_layers_spec"]
    encoder, decoder = settings["encoder"], settings["decoder"]
    context_encoder = TransformerEncoder(
        encoder["d_model"], encoder["num_layers"], encoder["nhead"]
    )
    return WavJEPA(
        ConvFrontend(layers[-1][0], layers, settings["in_channels"]),
        context_encoder,
        TargetEncoder(context_encoder, settings["average_top_k_layers"]),
        Predictor(
            encoder["d_model"],
            decoder["d_model"],
            decoder["num_layers"],
            decoder["nhead"],
        ),
    )


def select(numbers, prefix):
    """Take the tensors under a prefix and rename them to our keys."""
    chosen = {
        key.removeprefix(prefix): value
        for key, value in numbers.items()
        if key.startswith(prefix)
    }
    assert chosen
    return map_official_state(chosen)


def read_masks(numbers, model):
    """Turn the authors' masks into ours."""
    return JEPAMask(
        ~numbers["input.ctx_masks"],
        numbers["input.target_indices"],
        model.frontend.find_gradient_rows,
    )
