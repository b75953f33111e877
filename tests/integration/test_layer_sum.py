"""A learned sum of layers: written into folders and loaded from them."""

import pytest
import torch
from official_factory import sign
from speechbrain.inference.classifiers import EncoderClassifier

from speechbrain_wavjepa.inference import (
    LinearClassifier,
    MultilabelClassifier,
    hash_model,
    load_pretrained,
    write_pretrained,
)
from speechbrain_wavjepa.inference.config import read_settings
from speechbrain_wavjepa.inference.export import export_program
from speechbrain_wavjepa.inference.pretrained import write_weights
from speechbrain_wavjepa.nnet import LayerSum

LABELS = ["dog", "rain", "siren"]


@pytest.fixture
def clips():
    return torch.randn(2, 40000, generator=torch.Generator().manual_seed(0)) / 8


@pytest.fixture(params=[LinearClassifier, MultilabelClassifier])
def classifier(request):
    torch.manual_seed(1)
    return request.param(16, 3)


@pytest.fixture
def base(pretrained_folder, tmp_path):
    """A pretrained folder whose layers do something."""
    model = load_pretrained(pretrained_folder).embedding_model.model
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    write_pretrained(tmp_path / "base", model)
    return tmp_path / "base"


@pytest.fixture
def encoder(base):
    """An encoder with a sum that is neither the mean nor the last layer."""
    encoder = load_pretrained(base, layer_weights=True)
    weights = encoder.embedding_model.layer_sum.weights
    assert weights.tolist() == [0, 0]
    weights.copy_(torch.tensor([1.5, -0.5]))
    return encoder


@pytest.fixture
def folder(encoder, classifier, tmp_path):
    embedding = encoder.embedding_model
    write_pretrained(
        tmp_path / "pretrained",
        embedding.model,
        classifier=classifier,
        labels=LABELS,
        layer_sum=embedding.layer_sum,
    )
    return tmp_path / "pretrained"


def test_the_folder_gives_the_same(
    folder, encoder, classifier, base, tmp_path, clips
):
    with torch.no_grad():
        expected = classifier(encoder.embed(clips))[:, 0]
        last_layer = classifier(load_pretrained(base).embed(clips))
    assert (expected - last_layer[:, 0]).abs().max() > 0.01
    loaded = EncoderClassifier.from_hparams(
        source=str(folder), savedir=str(tmp_path / "cache")
    )
    assert torch.equal(loaded.classify_batch(clips)[0], expected)
    again = load_pretrained(folder).embed(clips)
    assert torch.equal(again, encoder.embed(clips))
    assert not again.requires_grad


def test_probabilities_are_independent_only_of_tags(folder, tmp_path, clips):
    loaded = EncoderClassifier.from_hparams(
        source=str(folder), savedir=str(tmp_path / "cache")
    )
    scores, best, index, labels = loaded.classify_batch(clips)
    logits = loaded.mods.classifier.linear(loaded.encode_batch(clips))[:, 0]
    expected = logits.softmax(dim=1)
    if isinstance(loaded.mods.classifier, MultilabelClassifier):
        expected = logits.sigmoid()
    torch.testing.assert_close(scores.exp(), expected)
    assert torch.equal(best, scores.amax(dim=1))
    assert labels == [LABELS[number] for number in index]


def test_the_sum_may_be_left_out(folder, base, clips):
    alone = load_pretrained(folder, layer_weights=False)
    expected = load_pretrained(base).embed(clips)
    assert torch.equal(alone.embed(clips), expected)


def test_settings_that_a_folder_lacks_have_defaults(base, clips):
    """As in a folder that is older than the setting."""
    expected = load_pretrained(base).embed(clips)
    path = base / "hyperparams.yaml"
    path.write_text(path.read_text().replace("layer_weights: false\n", ""))
    assert "layer_weights" not in read_settings(base)
    assert torch.equal(load_pretrained(base).embed(clips), expected)


def test_weights_of_a_sum_are_loaded_strictly(folder, tmp_path):
    path = folder / "layer_sum.ckpt"
    write_weights(LayerSum(3).state_dict(), path)
    with pytest.raises(ValueError, match="differs from its checksum"):
        load_pretrained(folder)
    sign(folder)
    message = "layer_sum.ckpt does not fit the model"
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)
    with pytest.raises(ValueError, match=message):
        EncoderClassifier.from_hparams(
            source=str(folder), savedir=str(tmp_path / "cache")
        )
    path.unlink()
    with pytest.raises(ValueError, match="layer_sum.ckpt cannot be read"):
        load_pretrained(folder)


def test_a_folder_with_a_sum_is_replaced(folder, encoder):
    assert (folder / "layer_sum.ckpt").exists()
    (folder / "mine.ckpt").write_text("precious")
    model = encoder.embedding_model.model
    with pytest.raises(ValueError, match="mine.ckpt is not of a pretrained"):
        write_pretrained(folder, model)
    (folder / "mine.ckpt").unlink()
    write_pretrained(folder, model)
    assert not (folder / "layer_sum.ckpt").exists()
    assert load_pretrained(folder).embedding_model.layer_sum is None


def test_settings_and_sum_belong_together(encoder, tmp_path):
    model = encoder.embedding_model.model
    with pytest.raises(ValueError, match="and layer_sum, or neither"):
        write_pretrained(tmp_path / "a", model, {"layer_weights": True})
    with pytest.raises(ValueError, match="nor a sum of layers"):
        write_pretrained(
            tmp_path / "a",
            model,
            {"padding_in_statistics": True},
            layer_sum=LayerSum(2),
        )
    assert not (tmp_path / "a").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_program_sums_too(folder, encoder, tmp_path):
    export_program(folder, tmp_path / "encoder.pt2")
    windows = torch.randn(2, 32160, 1)
    expected = encoder.embedding_model.tokens(windows)[0]
    tokens = torch.export.load(tmp_path / "encoder.pt2").module()(windows)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-4)


def test_folders_with_other_sums_are_told_apart(folder):
    before = hash_model(folder)
    write_weights({"weights": torch.zeros(2)}, folder / "layer_sum.ckpt")
    assert hash_model(folder) != before
