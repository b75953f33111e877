"""The encoder as a program."""

import pytest
import torch

from speechbrain_wavjepa.inference import export, load_pretrained


@pytest.mark.parametrize("folder", ["pretrained_folder", "binaural_folder"])
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.filterwarnings("ignore")
def test_a_program_gives_the_tokens(request, tmp_path, folder, suffix):
    folder = request.getfixturevalue(folder)
    path = tmp_path / "new" / f"encoder{suffix}"
    errors = export.export_program(folder, path)
    assert path.exists()
    assert max(errors.values()) < 1e-4
    encoder = load_pretrained(folder)
    channels = encoder.compute_features.channels
    windows = torch.randn(5, 32160, channels)
    with torch.no_grad():
        expected = encoder.embedding_model.tokens(windows)[0]
    if suffix == ".pt2":
        tokens = torch.export.load(path).module()(windows)
        torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-4)


def test_the_process_can_go_on_after_an_export(pretrained_folder, tmp_path):
    """What a traced program computes must not stay in a cache."""
    encoder = load_pretrained(pretrained_folder)
    export.export_program(pretrained_folder, tmp_path / "a.pt2")
    embedding = encoder.embed(torch.randn(1, 16000))
    assert type(embedding) is torch.Tensor
    assert torch.isfinite(embedding).all()


def test_a_program_that_differs_is_deleted(
    pretrained_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="The program differs from the model"):
        export.export_program(pretrained_folder, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_another_suffix(pretrained_folder, tmp_path):
    with pytest.raises(ValueError, match=r"a.bin must end in .pt2 or .onnx"):
        export.export_program(pretrained_folder, tmp_path / "a.bin")
