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
from speechbrain_wavjepa.inference.pretrained import write_pretrained
from speechbrain_wavjepa.integrations.official import (
    format_report,
    load_official,
)


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
    assert "teacher_encoder           -> target_encoder" in format_report(
        report
    )


@pytest.mark.parametrize("key_prefix", [None, "model.wavjepa."])
def test_a_published_folder(tmp_path, key_prefix):
    model, settings = make_model(2)
    weights = official_weights(model, settings)
    save_file(
        {f"model.wavjepa.{key}": value for key, value in weights.items()},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    text = json.dumps({"model_type": "jepa", **hyper_parameters("gelu")})
    (tmp_path / "config.json").write_text(text)
    loaded, report = load_official(tmp_path, key_prefix)
    assert_same(loaded, model)
    assert report["settings"] == settings
    with pytest.raises(ValueError, match="do not begin with 'other.': model"):
        load_official(tmp_path, "other.")


def test_heads_that_no_file_tells_must_be_given(tmp_path):
    model, settings = make_model()
    path = write_checkpoint(
        tmp_path / "a.ckpt", official_weights(model, settings), {}
    )
    with pytest.raises(ValueError, match="dim 16: give encoder_heads"):
        load_official(path)
    with pytest.raises(ValueError, match="dim 8: give predictor_heads"):
        load_official(path, encoder_heads=4)
    with pytest.raises(ValueError, match=r"average_top_k_layers|top_k_layers"):
        load_official(path, encoder_heads=4, predictor_heads=2)
    path = write_checkpoint(
        tmp_path / "b.ckpt",
        official_weights(model, settings),
        {"average_top_k_layers": 2},
    )
    loaded, report = load_official(path, encoder_heads=4, predictor_heads=2)
    assert_same(loaded, model)
    assert report["settings"] == settings
    assert "resample_sr 16000" in report["assumed"]


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
    assert (
        main(["convert", "--reverse", str(tmp_path / "folder"), str(path)]) == 0
    )
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


def test_an_encoder_alone_cannot_go_back(tmp_path, capsys):
    model, _ = make_model()
    write_pretrained(tmp_path / "folder", model)
    (tmp_path / "folder" / "pretraining.ckpt").unlink()
    code = main(
        [
            "convert",
            "--reverse",
            str(tmp_path / "folder"),
            str(tmp_path / "a.ckpt"),
        ]
    )
    assert code == 2
    assert "has no pretraining.ckpt" in capsys.readouterr().err


def test_the_command_tells_errors_in_one_line(tmp_path, capsys):
    (tmp_path / "a.ckpt").write_bytes(b"PK")
    code = main(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "folder")])
    output = capsys.readouterr()
    assert code == 2
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert not (tmp_path / "folder").exists()
