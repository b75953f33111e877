"""A converted checkpoint of the authors gives their numbers."""

import pytest
import torch
from official import read_json, read_masks, read_numbers

from speechbrain_wavjepa.cli import main
from speechbrain_wavjepa.inference import load_pretrained
from speechbrain_wavjepa.integrations import load_official
from speechbrain_wavjepa.lobes import masked_mse


def write_lightning(path, numbers, settings):
    """Write the authors' weights as their training does, compiled."""
    state = {
        key.removeprefix("state.").replace(
            "extract_audio.", "extract_audio._orig_mod."
        ): value.float()
        for key, value in numbers.items()
        if key.startswith("state.")
    }
    options = {"average_top_k_layers": settings["average_top_k_layers"]}
    for name in ("encoder", "decoder"):
        heads = {"nhead": settings[name]["nhead"]}
        options[f"transformer_{name}_layers_cfg"] = heads
    torch.save({"state_dict": state, "hyper_parameters": options}, path)


@pytest.mark.parametrize("name", ["mono_tiny", "binaural_tiny"])
def test_numbers_of_a_converted_checkpoint(name, tmp_path):
    numbers, settings = read_numbers(name), read_json(name)
    path, folder = tmp_path / "official.ckpt", tmp_path / "folder"
    write_lightning(path, numbers, settings)
    whole, _ = load_official(path)
    waveform = numbers["input.audio"].transpose(1, 2)
    mask = read_masks(numbers, whole)
    output = whole.double()(waveform.double(), mask)
    loss = masked_mse(output.prediction, output.target, output.mask)
    assert loss.item() == pytest.approx(
        numbers["out.loss"].item(), rel=0, abs=1e-10
    )

    assert main(["convert", str(path), str(folder)]) == 0
    model = load_pretrained(folder).embedding_model.model
    with torch.no_grad():
        context = model.encode(waveform, mask.context_mask)
        context = context[mask.context_mask].double()
        projected = whole.predictor.input_projection(context)
    torch.testing.assert_close(
        projected, numbers["out.contextual_features"], rtol=0, atol=1e-5
    )
