"""Files that are damaged, dangerous or of another model."""

import argparse
import os

import pytest
import torch
from official_factory import (
    hyper_parameters,
    make_model,
    official_weights,
    write_checkpoint,
)
from safetensors.torch import save_file

from speechbrain_wavjepa.integrations import load_official


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["namespace", "trap"])
def test_other_classes_are_refused_by_name(tmp_path, kind):
    model, settings = make_model()
    victim = tmp_path / "made"
    thing = Trap(str(victim)) if kind == "trap" else argparse.Namespace(a=1)
    path = write_checkpoint(
        tmp_path / "a.ckpt", official_weights(model, settings), thing=thing
    )
    name = "mkdir" if kind == "trap" else "argparse.Namespace"
    with pytest.raises(ValueError, match=name):
        load_official(path)
    assert not victim.exists()


def test_a_damaged_file_is_one_clear_error(tmp_path):
    model, settings = make_model()
    weights = official_weights(model, settings)
    whole = write_checkpoint(tmp_path / "a.ckpt", weights).read_bytes()
    save_file(weights, tmp_path / "a.safetensors")
    tensors = (tmp_path / "a.safetensors").read_bytes()
    for name, content in (
        ("half.ckpt", whole[: len(whole) // 2]),
        ("empty.ckpt", b""),
        ("text.ckpt", b"not a checkpoint"),
        ("half.safetensors", tensors[: len(tensors) // 2]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read.*whole"):
            load_official(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="holds no state_dict"):
        load_official(tmp_path / "list.ckpt")
    (tmp_path / "model.safetensors").write_bytes(tensors)
    with pytest.raises(ValueError, match="no file .*config.json"):
        load_official(tmp_path)


def forget(weights, options):
    del weights["encoder.layers.1.norm2.bias"]


def add(weights, options):
    weights["classifier.weight"] = torch.zeros(3)


def add_bias(weights, options):
    weights["extract_audio.cnn.0.0.bias"] = torch.zeros(8)


def resize(weights, options):
    weights["teacher_encoder.layers.2.linear1.bias"] = torch.zeros(7)


def move_table(weights, options):
    weights["pos_encoding_decoder"] = weights["pos_encoding_decoder"] + 0.01


def shorten_table(weights, options):
    table = weights["pos_encoding_encoder"]
    weights["pos_encoding_encoder"] = table[:, :100]


def drop_frontend(weights, options):
    for key in [key for key in weights if key.startswith("extract_audio")]:
        del weights[key]


def repeat(weights, options):
    weights["encoder._orig_mod.norm.bias"] = weights["encoder.norm.bias"]


def choose_relu(weights, options):
    options["transformer_encoder_layers_cfg"]["activation"] = "relu"


def approximate(weights, options):
    layer = options["transformer_encoder_layers_cfg"]
    layer["activation"] = torch.nn.GELU("tanh")


def write_text(weights, options):
    options["average_top_k_layers"] = "two"


def put_norms_first(weights, options):
    options["transformer_decoder_layers_cfg"]["norm_first"] = True


def widen(weights, options):
    options["transformer_encoder_layers_cfg"]["d_model"] = 768


def make_nan(weights, options):
    weights["encoder.norm.bias"][0] = torch.nan


def expand(weights, options):
    weights["encoder.norm.bias"] = torch.zeros(1).expand(10**10)


def ask_for_windows_without_end(weights, options):
    options["process_audio_seconds"] = 1e12


def ask_for_no_heads(weights, options):
    options["transformer_decoder_layers_cfg"]["nhead"] = 0


def empty(weights, options):
    weights["encoder.norm.weight"] = torch.zeros(0)
    options.clear()


def flatten(weights, options):
    weights["encoder.norm.weight"] = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (forget, "another model: .*context_encoder.layers.1.norm2.bias"),
        (add, "1 keys are not those of the authors' code: classifier.weight"),
        (add_bias, "another model: .*frontend.stacks.0.layers.0.bias"),
        (resize, "another model: .*target_encoder.encoder.layers.2.mlp.0.bias"),
        (move_table, "pos_encoding_decoder .* differs from ours"),
        (shorten_table, r"_encoder \[1, 100, 16\] differs .* \[1, 200, 16\]"),
        (drop_frontend, "no whole WavJEPA: .*extract_audio.cnn.0.0.weight"),
        (repeat, "with and without _orig_mod."),
        (choose_relu, "say activation=relu of the encoder"),
        (approximate, "say activation=GELU.*tanh.* of the encoder"),
        (put_norms_first, "say norm_first=True of the decoder"),
        (make_nan, "weights that are not finite in encoder.norm.bias"),
        (expand, "claims 400.* bytes and has"),
        (ask_for_windows_without_end, "window_samples must lie between"),
        (ask_for_no_heads, "predictor_heads must lie between"),
        (flatten, "no whole WavJEPA: IndexError"),
        (empty, "no whole WavJEPA: ZeroDivision"),
        (widen, "say d_model=768 of the encoder, the weights .* 16"),
        (write_text, "average_top_k_layers must be of type int, got 'two'"),
    ],
)
def test_another_model_is_refused(tmp_path, change, message):
    weights = official_weights(*make_model())
    options = hyper_parameters()
    change(weights, options)
    path = write_checkpoint(tmp_path / "a.ckpt", weights, options)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_official(path)


def test_a_published_folder_that_is_a_trap(tmp_path):
    weights = official_weights(*make_model())
    save_file(weights, tmp_path / "model.safetensors")
    for text in ('{"a": ' * 10**5, '{"a": NaN', "\udcff"):
        data = text.encode(errors="surrogateescape")
        (tmp_path / "config.json").write_bytes(data)
        with pytest.raises(ValueError, match="config.json cannot be read"):
            load_official(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"no file .*{name}"):
            load_official(tmp_path)
