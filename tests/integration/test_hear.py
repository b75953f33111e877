"""The API of HEAR, by the public validator's own checks."""

import importlib
import sys
import types

import pytest
import torch

from speechbrain_wavjepa.inference.hear import (
    get_scene_embeddings,
    get_timestamp_embeddings,
    load_model,
)


@pytest.fixture
def validator(monkeypatch):
    """The public package; it imports TensorFlow to ask for one class of it."""
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.Module = type("Module", (), {})
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    pytest.importorskip("hearvalidator")
    yield importlib.import_module("hearvalidator.validate")
    sys.modules.pop("hearvalidator.validate")


@pytest.mark.parametrize("folder", ["pretrained_folder", "binaural_folder"])
@pytest.mark.filterwarnings("error")
def test_the_public_validator(validator, request, capsys, device, folder):
    validator.ValidateModel(
        "speechbrain_wavjepa.inference.hear",
        str(request.getfixturevalue(folder)),
        str(device),
    )()
    printed = capsys.readouterr().out
    assert "Interval between timestamps is 10.0" in printed
    assert "Received embedding of shape: torch.Size([16, 199, 16])" in printed


@pytest.mark.parametrize("seconds", [0.02, 1.07, 1.98, 4.0, 8.32])
def test_times_are_evenly_spaced(pretrained_folder, device, seconds):
    """Also over the borders of windows, to less than a millisecond."""
    model = load_model(pretrained_folder).to(device)
    audio = torch.rand(2, int(seconds * 16000), device=device) * 2 - 1
    embeddings, times = get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == times.dtype == torch.float32
    assert embeddings.shape[:2] == times.shape
    torch.testing.assert_close(
        times.diff(), torch.full_like(times.diff(), 10.0), rtol=0, atol=1e-2
    )
    assert times.max() < 1000 * seconds
    assert times.max() > 1000 * seconds - 20
    scene = get_scene_embeddings(audio, model)
    torch.testing.assert_close(scene, embeddings.mean(dim=1))


def test_a_model_without_a_path_is_refused():
    with pytest.raises(ValueError, match="There is no default model"):
        load_model()


def test_clips_with_channels(binaural_folder, device):
    model = load_model(binaural_folder).to(device)
    assert not model.training
    mono = torch.randn(3, 16000, device=device)
    twice = mono[:, :, None].expand(-1, -1, 2)
    assert torch.equal(
        get_scene_embeddings(mono, model), get_scene_embeddings(twice, model)
    )
