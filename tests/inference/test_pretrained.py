"""Pretrained folders: whole or not at all, and nothing is evaluated."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from official_factory import make_model, sign
from torch import nn

from speechbrain_wavjepa.inference import (
    LinearClassifier,
    MissingClassifier,
    MultilabelClassifier,
    load_pretrained,
    write_pretrained,
)
from speechbrain_wavjepa.inference.config import (
    ENCODER_SETTINGS,
    FRONTENDS,
    PRETRAINING_SETTINGS,
    RUNTIME_SETTINGS,
    SETTINGS,
    Tagged,
    build_encoder,
    build_wavjepa,
    describe_model,
    read_settings,
)
from speechbrain_wavjepa.inference.pretrained import read_weights

CLASSIFIERS = (LinearClassifier, MultilabelClassifier, MissingClassifier)


@pytest.fixture
def model():
    return make_model()[0]


def test_what_is_in_a_folder(tmp_path, model):
    folder = tmp_path / "folder"
    write_pretrained(
        folder,
        model,
        {"level_db": -20, "training": {"steps": 1500, "data": "own"}},
        {"licence": "cc-by-4.0", "figures": {"ESC-10": "62.2 %"}},
        LinearClassifier(16, 2),
        ["dog", "rain"],
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "classifier.ckpt",
        "example.wav",
        "hyperparams.yaml",
        "label_encoder.ckpt",
        "pretraining.ckpt",
        "wavjepa.ckpt",
    ]
    settings = read_settings(folder)
    assert settings["level_db"] == -20
    assert settings["training"] == {"steps": 1500, "data": "own"}
    assert isinstance(settings["pretrainer"], Tagged)
    card = (folder / "README.md").read_text()
    texts = ("cc-by-4.0", "ESC-10", "62.2 %", "dog, rain", "steps | 1500")
    for text in (*texts, "one every 10 ms"):
        assert text in card
    state = model.state_dict()
    written = {
        **read_weights(folder / "wavjepa.ckpt"),
        **read_weights(folder / "pretraining.ckpt"),
    }
    assert set(written) == set(state)
    assert all(torch.equal(written[key], state[key]) for key in state)


def test_changes_when_loading(tmp_path, model):
    write_pretrained(tmp_path / "folder", model, {"pooling": "max"})
    encoder = load_pretrained(tmp_path / "folder", overlap=0.25)
    assert encoder.embedding_model.pooling == "max"
    assert encoder.embedding_model.grid.overlap_tokens == 50
    assert not encoder.training
    with pytest.raises(ValueError, match=r"Unknown settings \['hop'\]"):
        load_pretrained(tmp_path / "folder", hop=1)
    with pytest.raises(ValueError, match="precision must be one of"):
        load_pretrained(tmp_path / "folder", precision="fp8")


KILLED = """
import os
from official_factory import make_model
from speechbrain_wavjepa.inference import pretrained

def die(*_):
    os._exit(9)

setattr(pretrained, {function!r}, die)
pretrained.write_pretrained({folder!r}, make_model(2)[0])
"""


@pytest.mark.parametrize(
    "function",
    ["write_weights", "write_card", "write_hyperparams", "load_pretrained"],
)
def test_a_killed_export(tmp_path, model, function):
    folder = tmp_path / "folder"
    code = KILLED.format(function=function, folder=str(folder))
    for before in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert done.returncode == 9
        assert folder.exists() == before
        if before:
            assert load_pretrained(folder).compute_features.channels == 1
        write_pretrained(folder, model)
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_leaves_nothing(tmp_path, model):
    for classifier, labels, message in (
        (LinearClassifier(16, 3), ["a", "b"], r"\[3, 16\] and .* \[2, 16\]"),
        (LinearClassifier(8, 2), ["a", "b"], r"\[2, 8\] and .* \[2, 16\]"),
        (LinearClassifier(16, 2), None, "together with its labels"),
        (LinearClassifier(16, 2), ["a", "a"], "there twice"),
        (nn.Linear(16, 2), ["a", "b"], "A Linear cannot be written to"),
    ):
        with pytest.raises(ValueError, match=message):
            write_pretrained(
                tmp_path / "folder",
                model,
                classifier=classifier,
                labels=labels,
            )
    with pytest.raises(ValueError, match=r"Unknown settings \['rate'\]"):
        write_pretrained(tmp_path / "folder", model, {"rate": 1})
    with pytest.raises(ValueError, match="must be of type int, got 'high'"):
        write_pretrained(tmp_path / "folder", model, {"sample_rate": "high"})
    assert not list(tmp_path.iterdir())


def test_another_folder_is_not_replaced(tmp_path, model):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="precious.txt is not of a pretrained"):
        write_pretrained(tmp_path, model)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_stranger_s_yaml_is_not_run(tmp_path):
    victim = tmp_path / "made"
    text = f"channels: !apply:os.mkdir [{victim}]\n"
    (tmp_path / "hyperparams.yaml").write_text(text)
    assert read_settings(tmp_path) == {"channels": Tagged("!apply:os.mkdir")}
    with pytest.raises(ValueError, match="channels must be of type int"):
        load_pretrained(tmp_path)
    text = f"channels: !!python/object/apply:os.mkdir [{victim}]\n"
    (tmp_path / "hyperparams.yaml").write_text(text)
    read_settings(tmp_path)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as yaml"),
        ("- 1\n", "holds no settings"),
        ("", "holds no settings"),
        ("channels: 1\n", "The setting share_weights is missing"),
        (None, "has no hyperparams.yaml"),
    ],
)
def test_a_yaml_that_is_none_of_ours(tmp_path, text, message):
    if text is not None:
        (tmp_path / "hyperparams.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_weights_of_another_size(tmp_path, model):
    write_pretrained(tmp_path / "mono", model)
    write_pretrained(tmp_path / "both", make_model(2)[0])
    os.replace(
        tmp_path / "both" / "wavjepa.ckpt", tmp_path / "mono" / "wavjepa.ckpt"
    )
    with pytest.raises(ValueError, match="wavjepa.ckpt differs from its check"):
        load_pretrained(tmp_path / "mono")
    sign(tmp_path / "mono")
    with pytest.raises(ValueError, match="wavjepa.ckpt does not fit the model"):
        load_pretrained(tmp_path / "mono")


def test_settings_are_plain_json(tmp_path, model):
    """So that other tools can read them as well."""
    write_pretrained(tmp_path / "folder", model)
    settings = read_settings(tmp_path / "folder")
    names = {*ENCODER_SETTINGS, *PRETRAINING_SETTINGS, *RUNTIME_SETTINGS}
    json.dumps({name: settings[name] for name in {*names, "checksums"}})


def test_a_model_survives_its_settings(tmp_path):
    for channels in (1, 2):
        model, settings = make_model(channels)
        described = describe_model(model)
        assert described == {key: settings[key] for key in described}
        again = describe_model(build_wavjepa(described))
        assert again == described and set(described) < set(SETTINGS)


def test_templates_are_installed_and_name_what_is_public(tmp_path):
    command = ["setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, *command], cwd=root, check=True)
    installed = tmp_path / "speechbrain_wavjepa" / "inference" / "templates"
    text = (installed / "hyperparams.yaml").read_text()
    assert (installed / "model_card.md").exists()
    names = set(re.findall(r":speechbrain_wavjepa\.([\w.$]+)", text))
    names -= {"inference.$classifier", "lobes.$frontend"}
    names |= {f"inference.{kind.__name__}" for kind in CLASSIFIERS}
    names |= {f"lobes.{kind}" for kind in FRONTENDS}
    for room, name in (name.split(".") for name in names):
        public = importlib.import_module(f"speechbrain_wavjepa.{room}").__all__
        assert name in public, name


def test_what_no_one_asked_for_is_not_in_a_folder(tmp_path, model):
    """Conditions and placeholders of the templates, with and without."""
    write_pretrained(tmp_path / "folder", build_encoder(describe_model(model)))
    text = "".join(
        (tmp_path / "folder" / name).read_text()
        for name in ("hyperparams.yaml", "README.md")
    )
    assert "MissingClassifier" in text and "licence | not stated" in text
    for left in ("$", "# if", "predictor", "LayerSum", "Categorical", "tells"):
        assert left not in text, left


def test_random_weights_are_new(tmp_path, model):
    write_pretrained(tmp_path / "folder", model)
    folder, clip = tmp_path / "folder", torch.randn(1, 16000)
    torch.manual_seed(0)
    random = load_pretrained(folder, random_weights=True).embed(clip)
    assert random.shape == (1, 1, 16)
    assert not torch.allclose(random, load_pretrained(folder).embed(clip))
    torch.manual_seed(0)
    again = load_pretrained(folder, random_weights=True).embed(clip)
    assert torch.equal(random, again)
