"""Encoders of the hub against transformers' own classes, clip by clip."""

import json
import shutil
from functools import partial

import pytest
import torch
import transformers
from speechbrain.integrations.huggingface.hubert import HuBERT
from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2
from speechbrain.integrations.huggingface.wavlm import WavLM

from conftest import write_tiny_hugging_face
from speechbrain_wavjepa.integrations import HuggingFaceEncoder, hash_encoder

FIELD, STRIDE = 105, 160  # samples, of a token of the tiny models


def make_clips():
    """A quiet clip and a loud one, with offsets that normalization removes."""
    random = torch.Generator().manual_seed(1)
    clips = torch.randn(2, 3210, generator=random)
    return clips * torch.tensor([[0.002], [0.3]]) + torch.tensor([[0.0], [0.4]])


def encode_alone(folder, clip, **length):
    """Encode one clip [T] as the kit of ARCH does."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = extractor(
        clip.numpy(), sampling_rate=16000, return_tensors="pt", **length
    )
    with torch.no_grad():
        return model(inputs.input_values).last_hidden_state[0]


@pytest.mark.parametrize(
    "lobe, config, prepare",
    [
        (Wav2Vec2, "Wav2Vec2Config", {}),
        (Wav2Vec2, "Wav2Vec2Config", {"return_attention_mask": True}),
        (HuBERT, "HubertConfig", {"return_attention_mask": True}),
        (WavLM, "WavLMConfig", {"do_normalize": False}),
        (Wav2Vec2, "Data2VecAudioConfig", {}),
    ],
)
def test_equal_to_transformers(lobe, config, prepare, tmp_path):
    folder = write_tiny_hugging_face(tmp_path / "model", config, **prepare)
    clips = make_clips()
    encoder = HuggingFaceEncoder(lobe, folder).eval()
    tokens = encoder(clips)["embeddings"]
    scenes = encoder.embed(clips)
    assert encoder.sample_rate == 16000
    for number, clip in enumerate(clips):
        expected = encode_alone(folder, clip)
        assert expected.std() > 0.1
        torch.testing.assert_close(tokens[number], expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(
            scenes[number, 0], expected.mean(dim=0), rtol=0, atol=1e-5
        )
    for seconds in (0.1, 0.5):  # shorter and longer than the clips
        encoder.pad_to_seconds = seconds
        padded = encoder.embed(clips)
        assert (padded - scenes).abs().max() > 1e-3
        for number, clip in enumerate(clips):
            expected = encode_alone(
                folder,
                clip,
                padding="max_length",
                max_length=int(16000 * seconds),
                truncation=True,
            )
            torch.testing.assert_close(
                padded[number, 0], expected.mean(dim=0), rtol=0, atol=1e-5
            )
        # tokens keep their own times
        torch.testing.assert_close(encoder(clips)["embeddings"], tokens)


def test_neighbours_and_channels(hugging_face_folder, device):
    encoder = HuggingFaceEncoder(Wav2Vec2, hugging_face_folder).eval()
    encoder.to(device)
    quiet, loud = make_clips().to(device)
    embeddings = encoder.embed(torch.stack([quiet, loud]))
    torch.testing.assert_close(encoder.embed(quiet[None])[0], embeddings[0])
    torch.testing.assert_close(
        encoder.embed(loud[None, :, None])[0], embeddings[1]
    )
    stereo = torch.stack([quiet, 2 * loud - quiet], dim=1)
    torch.testing.assert_close(
        encoder.embed(stereo[None])[0], embeddings[1], rtol=0, atol=1e-5
    )


def test_a_time_is_the_middle_of_a_receptive_field(tmp_path):
    # the front-end of data2vec has no norm over time
    folder = write_tiny_hugging_face(tmp_path / "d", "Data2VecAudioConfig")
    encoder = HuggingFaceEncoder(Wav2Vec2, folder).eval()
    clip = make_clips()[:1].requires_grad_()
    frames = encoder.lobe.model.feature_extractor(clip)  # [1, D, N]
    times = encoder(clip.detach())["times"]
    assert len(times) == frames.shape[2] == (3210 - FIELD) // STRIDE + 1
    for place in (0, 7, len(times) - 1):
        (gradient,) = torch.autograd.grad(
            frames[0, :, place].square().sum(), clip, retain_graph=True
        )
        field = gradient[0].nonzero()[:, 0]
        middle = (field[0] + field[-1] + 1) / 2 / 16000
        assert times[place].item() == pytest.approx(middle.item())


def test_long_clips_are_encoded_in_windows(hugging_face_folder):
    encoder = HuggingFaceEncoder(
        Wav2Vec2, hugging_face_folder, max_seconds=0.5
    ).eval()
    encoded = []
    encoder.lobe.register_forward_pre_hook(
        lambda _, inputs: encoded.append(inputs[0].numel())
    )
    clips = torch.randn(3, 20011, generator=torch.Generator().manual_seed(0))
    output = encoder(clips)
    assert max(encoded) < 8000 + STRIDE
    assert len(encoded) == 9  # 3 windows of one clip at a time
    num_tokens = (20011 - FIELD) // STRIDE + 1
    assert output["embeddings"].shape == (3, num_tokens, 16)
    normal = (clips - clips.mean(1, True)) / clips.std(1, keepdim=True)
    first = encoder.lobe(normal[:, : 41 * STRIDE + FIELD])
    torch.testing.assert_close(
        output["embeddings"][:, :42], first, rtol=0, atol=1e-3
    )
    short = HuggingFaceEncoder(Wav2Vec2, hugging_face_folder).eval()(clips)
    torch.testing.assert_close(output["times"], short["times"])
    encoded.clear()
    encoder(clips[:2, :4000])
    assert encoded == [8000]  # both clips at once


def test_keys(hugging_face_folder, tmp_path):
    def key(folder=hugging_face_folder, lobe=Wav2Vec2, **settings):
        return hash_encoder(HuggingFaceEncoder(lobe, folder, **settings))

    copy = shutil.copytree(hugging_face_folder, tmp_path / "copy")
    other = write_tiny_hugging_face(
        tmp_path / "other", "Wav2Vec2Config", seed=1
    )
    raw = write_tiny_hugging_face(
        tmp_path / "raw", "Wav2Vec2Config", do_normalize=False
    )
    assert key() == key(copy)
    different = [
        key(),
        key(other),
        key(raw),
        key(pad_to_seconds=5),
        key(pad_to_seconds=10),
        key(max_seconds=20),
        key(lobe=partial(Wav2Vec2, output_norm=True)),
    ]
    assert len(set(different)) == len(different)


def test_what_cannot_be_used_is_refused(hugging_face_folder, tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=f"{nowhere} cannot be loaded"):
        HuggingFaceEncoder(Wav2Vec2, nowhere)
    adapter = shutil.copytree(hugging_face_folder, tmp_path / "adapter")
    config = json.loads((adapter / "config.json").read_text())
    config["add_adapter"] = True
    (adapter / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="without an adapter"):
        HuggingFaceEncoder(Wav2Vec2, adapter)
    hiddens = partial(Wav2Vec2, output_all_hiddens=True)
    with pytest.raises(ValueError, match="output_all_hiddens: False"):
        HuggingFaceEncoder(hiddens, hugging_face_folder)
    for name in ("pad_to_seconds", "max_seconds"):
        with pytest.raises(ValueError, match=f"{name} must be .* got 0.001"):
            HuggingFaceEncoder(Wav2Vec2, hugging_face_folder, **{name: 0.001})
    encoder = HuggingFaceEncoder(Wav2Vec2, hugging_face_folder)
    with pytest.raises(ValueError, match="104 samples, fewer than the 105"):
        encoder.embed(torch.randn(1, 104))
    assert encoder.embed(torch.randn(1, 105)).shape == (1, 1, 16)
