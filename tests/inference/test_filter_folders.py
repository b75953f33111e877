"""Pretrained folders of models with front-ends of filters."""

import pytest
import torch
from speechbrain.inference.classifiers import EncoderClassifier

from speechbrain_wavjepa.cli import main
from speechbrain_wavjepa.inference import (
    export,
    load_pretrained,
    write_pretrained,
)
from speechbrain_wavjepa.inference.config import (
    build_encoder,
    build_wavjepa,
    describe_model,
    read_settings,
)
from speechbrain_wavjepa.lobes import (
    ConvFrontend,
    LeafFrontend,
    MelFrontend,
    Predictor,
    SincFrontend,
    TargetEncoder,
    WavJEPA,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

FRONTENDS = {
    "leaf": lambda: LeafFrontend(8, 12, "uniform", filter_stride=4),
    "sinc": lambda: SincFrontend(8, 12, "truncated_normal", channels=2),
    "mel": lambda: MelFrontend(8, 12, "pcen", 2, share_weights=True),
}


def make(frontend, target_frontend="shared"):
    """Make a small model for pretraining."""
    encoder = TransformerEncoder(16, 2, 4)
    return WavJEPA(
        frontend,
        encoder,
        TargetEncoder(encoder, 2),
        Predictor(16, 8, 1, 2),
        target_frontend,
    )


@pytest.fixture(params=FRONTENDS)
def folder(request, tmp_path):
    """A folder for each front-end, its parameters moved."""
    torch.manual_seed(1)
    model = make(FRONTENDS[request.param]())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.01 * torch.rand_like(parameter))
    write_pretrained(tmp_path / "folder", model)
    return tmp_path / "folder"


def test_folders_load_both_ways(folder, tmp_path, capsys):
    encoder = load_pretrained(folder)
    channels = encoder.compute_features.channels
    clip = torch.randn(1, 40000, channels) / 8
    theirs = EncoderClassifier.from_hparams(
        source=str(folder), savedir=str(tmp_path / "cache")
    )
    assert torch.equal(theirs.encode_batch(clip), encoder.embed(clip))
    random = load_pretrained(folder, random_weights=True)
    assert not torch.equal(random.embed(clip), encoder.embed(clip))
    assert main(["info", str(folder)]) == 0
    printed = capsys.readouterr().out
    name = type(encoder.embedding_model.model.frontend).__name__
    assert f"frontend_class         {name}" in printed
    assert "frontend_options: num_filters 12" in printed
    assert "one every 10 ms" in (folder / "README.md").read_text()


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.filterwarnings("ignore")
def test_programs_give_the_tokens(folder, tmp_path, suffix):
    errors = export.export_program(folder, tmp_path / f"encoder{suffix}")
    assert max(errors.values()) < 1e-4


def test_settings_build_the_model_again():
    for make_frontend in FRONTENDS.values():
        model = make(make_frontend(), "ema")
        described = describe_model(model)
        assert described["target_frontend"] == "ema"
        again = build_wavjepa(described)
        again.load_state_dict(model.state_dict())
        assert describe_model(again) == described
    plain = describe_model(make(ConvFrontend(8, [[8, 240, 160]])))
    names = {"frontend_class", "frontend_options", "target_frontend"}
    assert not names & set(plain)  # as folders always were


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frontend_class": "Evil"}, r"frontend_class='Evil' must be one of"),
        ({"frontend_options": {}}, r"frontend_options of a LeafFrontend are"),
        ({"frontend_options": {"taps": 9}}, r"got \['taps'\]"),
        ({"num_filters": 10**9}, "num_filters must lie between 1 and 4096"),
        ({"taps": "401"}, "taps must be of type int"),
        ({"init": "bark"}, "init='bark'"),
    ],
)
def test_settings_that_no_front_end_has_are_refused(change, message):
    settings = describe_model(make(FRONTENDS["leaf"]()))
    (name,) = change
    if name in settings:
        settings |= change
    else:
        settings["frontend_options"] |= change
    with pytest.raises(ValueError, match=message):
        build_encoder(settings)


@pytest.mark.parametrize("kind", ["leaf", "ema"])
def test_the_authors_files_have_no_place_for_it(kind, tmp_path, capsys):
    frontend = {
        "leaf": lambda: LeafFrontend(8, 12),
        "ema": lambda: ConvFrontend(8, [[8, 240, 160]]),
    }
    model = make(frontend[kind](), "ema" if kind == "ema" else "shared")
    write_pretrained(tmp_path / "folder", model)
    assert "target_frontend" in read_settings(tmp_path / "folder") or (
        kind == "leaf"
    )
    names = [str(tmp_path / name) for name in ("folder", "back.ckpt")]
    assert main(["convert", "--reverse", *names]) == 2
    assert "have no place" in capsys.readouterr().err
    assert not (tmp_path / "back.ckpt").exists()
