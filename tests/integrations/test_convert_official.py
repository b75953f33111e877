"""Files as the authors write them, there and back."""

import json

import pytest
import torch
from official_factory import (
    SETTINGS,
    assert_same,
    hyper_parameters,
    make_model,
    official_weights,
    write_checkpoint,
)
from safetensors.torch import save_file
from torch import nn

from speechbrain_wavjepa.cli import main
from speechbrain_wavjepa.inference import write_pretrained
from speechbrain_wavjepa.inference.config import build_wavjepa
from speechbrain_wavjepa.integrations import load_official, write_official
from speechbrain_wavjepa.integrations.official import format_report


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("infix", ["", "_orig_mod."])
def test_a_lightning_checkpoint(tmp_path, channels, infix):
    model, settings = make_model(channels)
    weights = official_weights(model, settings, infix)
    assert any("_orig_mod." in key for key in weights) == bool(infix)
    path = write_checkpoint(tmp_path / "a.ckpt", weights)
    loaded, report = load_official(path)
    assert_same(loaded, model)
    assert report["settings"] == settings
    assert len(report["mapped"]) == len(weights) - 2
    assert sorted(report["tables"]) == [
        "pos_encoding_decoder",
        "pos_encoding_encoder",
    ]
    assert report["assumed"] == ["strides [5, 2, 2, 2, 2, 2]"]
    assert f"{len(weights) - 2} weights were read" in format_report(report)


def test_a_published_folder(tmp_path):
    model, settings = make_model(2)
    weights = official_weights(model, settings)
    save_file(
        {f"model.wavjepa.{key}": value for key, value in weights.items()},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    text = json.dumps({"model_type": "jepa", **hyper_parameters("gelu")})
    (tmp_path / "config.json").write_text(text)
    loaded, report = load_official(tmp_path)
    assert_same(loaded, model)
    assert report["settings"] == settings


def test_what_a_file_does_not_tell_is_as_released_or_asked_for(tmp_path):
    settings = {**SETTINGS, "channels": 1}
    released = {"encoder_dim": 768, "encoder_heads": 12, "predictor_dim": 384}
    released |= {"predictor_heads": 12, "encoder_mlp_ratio": 1.0}
    settings |= {**released, "encoder_depth": 8, "top_k_layers": 8}
    model = build_wavjepa(settings)
    weights = official_weights(model, settings)
    path = write_checkpoint(tmp_path / "a.ckpt", weights, {})
    loaded, report = load_official(path)
    assert_same(loaded, model)
    assert report["settings"] == settings
    for told in ("resample_sr 16000", "encoder_heads 12", "predictor_heads 12"):
        assert told in report["assumed"]
    path = write_checkpoint(
        tmp_path / "b.ckpt", official_weights(*make_model()), {}
    )
    with pytest.raises(ValueError, match="encoder_heads .* int, got None"):
        load_official(path)


def test_strides_that_no_file_tells_are_not_written(tmp_path):
    settings = {**SETTINGS, "channels": 1}
    settings["frontend_layers"] = [[8, 10, 4], *settings["frontend_layers"][1:]]
    folder = tmp_path / "folder"
    write_pretrained(folder, build_wavjepa(settings))
    with pytest.raises(ValueError, match="folder does not fit the authors'"):
        write_official(folder, tmp_path / "back.ckpt")


def test_a_table_in_half_precision_is_recognised(tmp_path):
    model, settings = make_model()
    weights = official_weights(model, settings)
    for key in ("pos_encoding_encoder", "pos_encoding_decoder"):
        weights[key] = weights[key].bfloat16()
    path = write_checkpoint(tmp_path / "a.ckpt", weights)
    assert len(load_official(path)[1]["tables"]) == 2


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_there_and_back_by_the_command(tmp_path, capsys, channels, suffix):
    model, settings = make_model(channels)
    weights = official_weights(model, settings)
    source = write_checkpoint(tmp_path / "source.ckpt", weights)
    folder, back = tmp_path / "folder", tmp_path / f"back{suffix}"
    assert main(["convert", str(source), str(folder)]) == 0
    assert main(["convert", "--reverse", str(folder), str(back)]) == 0
    assert "Wrote" in capsys.readouterr().out
    loaded, report = load_official(back)
    assert_same(loaded, model)
    assert report["settings"] == settings
    assert len(report["tables"]) == 2
    assert not [path for path in tmp_path.iterdir() if path.name[0] == "."]


def test_the_way_back_serves_pytorch_layers(tmp_path):
    """Their tools hand the hyper-parameters to PyTorch's own encoder."""
    model, settings = make_model()
    write_pretrained(
        tmp_path / "folder",
        model,
        {"window_samples": SETTINGS["window_samples"]},
    )
    path = tmp_path / "back.ckpt"
    write_official(tmp_path / "folder", path)
    with torch.serialization.safe_globals([nn.GELU]):
        content = torch.load(path, weights_only=True)
    options = content["hyper_parameters"]
    layer = nn.TransformerEncoderLayer(
        **options["transformer_encoder_layers_cfg"]
    )
    encoder = nn.TransformerEncoder(
        layer, norm=nn.LayerNorm(16), **options["transformer_encoder_cfg"]
    )
    encoder.load_state_dict(
        {
            key.removeprefix("encoder."): value
            for key, value in content["state_dict"].items()
            if key.startswith("encoder.")
        }
    )
    tokens = torch.randn(2, 50, 16)
    with torch.no_grad():
        expected = encoder.eval()(tokens)
        torch.testing.assert_close(
            model.context_encoder(tokens), expected, rtol=0, atol=1e-5
        )


def test_an_encoder_alone_cannot_go_back(tmp_path):
    model, _ = make_model()
    write_pretrained(tmp_path / "folder", model)
    (tmp_path / "folder" / "pretraining.ckpt").unlink()
    with pytest.raises(ValueError, match="has no pretraining.ckpt"):
        write_official(tmp_path / "folder", tmp_path / "a.ckpt")


def test_the_command_tells_errors_in_one_line(tmp_path, capsys):
    (tmp_path / "a.ckpt").write_bytes(b"PK")
    code = main(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "folder")])
    output = capsys.readouterr()
    assert code == 2
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert not (tmp_path / "folder").exists()
