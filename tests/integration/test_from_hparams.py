"""Pretrained folders, loaded by SpeechBrain's own classes without network."""

import socket

import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from official_factory import sign
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.inference.encoders import WaveformEncoder

from speechbrain_wavjepa.inference import (
    LinearClassifier,
    load_pretrained,
    write_pretrained,
)
from speechbrain_wavjepa.inference.config import build_encoder, read_settings

SIZES = {
    "frontend_dim": 8,
    "frontend_layers": [[8, 240, 160]],
    "share_weights": False,
    "encoder_dim": 16,
    "encoder_depth": 2,
    "encoder_heads": 4,
    "encoder_mlp_ratio": 2.0,
    "encoder_norm_first": False,
}
LABELS = ["dog", "rain", "siren"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever calls out fails."""

    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=[1, 2], ids=["mono", "binaural"])
def channels(request):
    return request.param


@pytest.fixture
def folder(tmp_path, channels):
    """A folder of an encoder with a classifier."""
    torch.manual_seed(0)
    model = build_encoder({**SIZES, "channels": channels})
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "pretrained"
    write_pretrained(
        path, model, classifier=LinearClassifier(16, 3), labels=LABELS
    )
    return path


@pytest.fixture
def classifier(folder, tmp_path):
    return EncoderClassifier.from_hparams(
        source=str(folder), savedir=str(tmp_path / "cache")
    )


def make_sound(num_samples, channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_samples, channels, generator=generator) / 8


def test_padding_changes_nothing(classifier, channels):
    lengths = [16000, 40000, 80000]
    clips = [make_sound(length, channels, length) for length in lengths]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    batch[0, 16000:] = 123
    wav_lens = torch.tensor(lengths) / 80000
    together = classifier.encode_batch(batch, wav_lens)
    assert together.shape == (3, 1, 16)
    for row, clip in zip(together, clips):
        alone = classifier.encode_batch(clip[None])
        torch.testing.assert_close(row, alone[0], rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_classify(classifier, channels):
    clips = make_sound(2 * 20000, channels).unflatten(0, (2, 20000))
    scores, best, index, labels = classifier.classify_batch(clips)
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(2))
    assert torch.equal(scores.max(dim=1).values, best)
    assert labels == [LABELS[number] for number in index]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("found", [1, 2])
def test_classify_a_file(classifier, folder, tmp_path, channels, rate, found):
    """Any rate, mono or stereo; equal to what load_pretrained gives."""
    path = tmp_path / "sound.wav"
    sound = make_sound(2 * rate, found)
    soundfile.write(path, sound.numpy(), rate, subtype="FLOAT")
    scores, _, _, (label,) = classifier.classify_file(str(path))
    assert label in LABELS
    clip = classifier.load_audio(str(path))
    assert clip.shape == (32000, found)
    embedding = load_pretrained(folder).embed(clip[None])
    expected = classifier.mods.classifier(embedding)[:, 0]
    torch.testing.assert_close(scores, expected)


def test_opposite_ears_are_not_silence(classifier, channels, tmp_path):
    path = tmp_path / "opposite.wav"
    left = make_sound(16000, 1)
    soundfile.write(path, torch.cat([left, -left], dim=1).numpy(), 16000)
    clip = classifier.load_audio(str(path))
    embedding = classifier.encode_batch(clip[None])
    silence = classifier.encode_batch(torch.zeros(1, 16000, channels))
    assert (embedding - silence).abs().max() > 1e-2


def test_tokens(folder, channels, tmp_path):
    encoder = WaveformEncoder.from_hparams(
        source=str(folder), savedir=str(tmp_path / "cache")
    )
    tokens = encoder.encode_file(str(folder / "example.wav"))
    assert tokens.shape == (1, 200, 16)
    clips = make_sound(2 * 40000, channels).unflatten(0, (2, 40000))
    output = encoder.encode_batch(clips, torch.tensor([1.0, 0.5]))
    assert output["num_tokens"].tolist() == [249, 124]
    assert output["embeddings"].shape == (2, 249, 16)
    assert output["times"].shape == (249,)


RECIPE = """
wavjepa: !new:speechbrain_wavjepa.lobes.WavJEPAEncoder
  frontend: !new:speechbrain_wavjepa.lobes.ConvFrontend
    dim: 8
    layers: [[8, 240, 160]]
    channels: {channels}
  context_encoder: !new:speechbrain_wavjepa.nnet.TransformerEncoder
    dim: 16
    depth: 2
    num_heads: 4
    mlp_ratio: 2.0
embedding_model: !new:speechbrain_wavjepa.lobes.WavJEPAEmbedding
  model: !ref <wavjepa>
  freeze: {freeze}
  {layer_sum}
classifier: !new:speechbrain_wavjepa.inference.LinearClassifier
  dim: 16
  num_classes: 2
pretrainer: !new:speechbrain_wavjepa.inference.FolderPretrainer
  loadables:
    wavjepa: !ref <wavjepa>
  checksums:
    wavjepa: {checksum}
"""


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("sums", [True, False])
def test_inside_another_recipe(folder, channels, freeze, sums):
    layer_sum = "layer_sum: !new:speechbrain_wavjepa.nnet.LayerSum [2]"
    hparams = load_hyperpyyaml(
        RECIPE.format(
            checksum=read_settings(folder)["checksums"]["wavjepa"],
            channels=channels,
            freeze=freeze,
            layer_sum=layer_sum if sums else "",
        )
    )
    pretrainer = hparams["pretrainer"]
    pretrainer.collect_files(str(folder))
    pretrainer.load_collected()
    model = hparams["wavjepa"]
    loaded = {k: v.clone() for k, v in model.state_dict().items()}
    expected = load_pretrained(folder).embedding_model.model.state_dict()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    parts = torch.nn.ModuleList(
        [hparams["embedding_model"], hparams["classifier"]]
    )
    optimizer = torch.optim.SGD(
        [p for p in parts.parameters() if p.requires_grad], lr=0.1
    )
    parts.train()
    clips = make_sound(2 * 40000, channels).unflatten(0, (2, 40000))
    losses = []
    for _ in range(3):
        scores = parts[1](parts[0](clips, torch.tensor([1.0, 0.7])))[:, 0]
        loss = torch.nn.functional.nll_loss(scores, torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    same = [torch.equal(loaded[k], v) for k, v in model.state_dict().items()]
    assert all(same) if freeze else not any(same[:3])
    if sums:
        assert parts[0].layer_sum.weights.abs().max() > 0


def test_a_damaged_or_foreign_checkpoint(folder, tmp_path):
    path = folder / "wavjepa.ckpt"
    whole = path.read_bytes()
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.ckpt")
    cases = {
        "cut off": whole[: len(whole) // 2],
        "does not fit the model": (tmp_path / "other.ckpt").read_bytes(),
    }
    for number, (message, content) in enumerate(cases.items()):
        path.write_bytes(content)
        for reason in ("differs from its checksum", message):
            savedir = str(tmp_path / f"cache{number}{reason[:4]}")
            with pytest.raises(ValueError, match=reason):
                EncoderClassifier.from_hparams(
                    source=str(folder), savedir=savedir
                )
            with pytest.raises(ValueError, match=reason):
                load_pretrained(folder)
            sign(folder)


def test_an_encoder_alone_says_that_it_cannot_classify(
    pretrained_folder, tmp_path
):
    encoder = EncoderClassifier.from_hparams(
        source=str(pretrained_folder), savedir=str(tmp_path / "cache")
    )
    with pytest.raises(ValueError, match="an encoder and no classifier"):
        encoder.classify_batch(torch.randn(1, 16000))
