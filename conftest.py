"""Options and fixtures of all tests."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

ROOT = Path(__file__).parent
# a background job ignores Ctrl-C, and so would what the tests start
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    """Let the tests run on a GPU."""
    parser.addoption("--device", default="cpu", help="cpu or cuda")


def pytest_collection_modifyitems(config, items):
    """Begin with the longest; skip what needs a GPU if there is none."""
    long = ("test_readmes", "integration/", "test_checkpoints")
    items.sort(key=lambda item: [name not in item.nodeid for name in long])
    if config.getoption("--device").startswith("cuda"):
        return
    skip = pytest.mark.skipif(True, reason="needs --device cuda")
    for item in items:
        if "requires_cuda" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def device(request):
    """Where the tests put models and tensors."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def test_data():
    """Folder of real audio, which is not part of the repository."""
    default = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("WAVJEPA_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set WAVJEPA_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def pretrained_folder(tmp_path_factory):
    """A pretrained folder of a tiny mono model, for examples and tests."""
    return write_tiny_pretrained(tmp_path_factory.mktemp("mono") / "tiny", 1)


@pytest.fixture(scope="session")
def binaural_folder(tmp_path_factory):
    """A pretrained folder of a tiny binaural model."""
    return write_tiny_pretrained(tmp_path_factory.mktemp("both") / "tiny", 2)


def write_tiny_pretrained(folder, channels):
    """Write a pretrained folder of dim 16 with a token every 10 ms."""
    # here, since importing the toolkit takes seconds and few tests need it
    from speechbrain_wavjepa.inference import write_pretrained
    from speechbrain_wavjepa.lobes import ConvFrontend, WavJEPAEncoder
    from speechbrain_wavjepa.nnet import TransformerEncoder

    torch.manual_seed(channels)
    model = WavJEPAEncoder(
        ConvFrontend(8, [[8, 240, 160]], channels), TransformerEncoder(16, 2, 4)
    )
    write_pretrained(folder, model)
    return folder


@pytest.fixture(scope="session")
def hugging_face_folder(tmp_path_factory):
    """A tiny wav2vec2 as the hub stores one, for examples and tests."""
    folder = tmp_path_factory.mktemp("hub") / "wav2vec2"
    return write_tiny_hugging_face(folder, "Wav2Vec2Config")


def write_tiny_hugging_face(folder, config_name, seed=0, **prepare):
    """Write a model of dim 16 with a token every 10 ms, in its own format."""
    import transformers  # seconds, and few tests need it

    torch.manual_seed(seed)
    settings = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [8, 8, 8],
        "conv_kernel": [10, 8, 4],
        "conv_stride": [5, 4, 8],
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
    config = getattr(transformers, config_name)(**settings)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(**prepare)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def official_checkpoint(tmp_path_factory):
    """A tiny model as the authors' training saves it, for examples."""
    # here, since importing the toolkit takes seconds and few tests need it
    from official_factory import make_model, official_weights, write_checkpoint

    path = tmp_path_factory.mktemp("official") / "official.ckpt"
    return write_checkpoint(path, official_weights(*make_model()))


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory):
    """A task in the layout of HEAR: low tones and high tones."""
    folder = tmp_path_factory.mktemp("tasks") / "tones-v1-full"
    metadata = {
        "task_name": "tones",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": ["train", "valid", "test"],
        "sample_duration": 0.1,
        "evaluation": ["top1_acc", "mAP"],
    }
    random = np.random.default_rng(0)
    times = np.arange(1600) / 16000
    for split, count in (("train", 12), ("valid", 6), ("test", 6)):
        clips = folder / "16000" / split
        clips.mkdir(parents=True)
        labels = {}
        for number in range(count):
            label, frequency = (("low", 300), ("high", 3000))[number % 2]
            phase = random.uniform(0, 2 * np.pi)
            tone = 0.3 * np.sin(2 * np.pi * frequency * times + phase)
            noise = 0.01 * random.standard_normal(len(times))
            soundfile.write(clips / f"{number}.wav", tone + noise, 16000)
            labels[f"{number}.wav"] = [label]
        (folder / f"{split}.json").write_text(json.dumps(labels))
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,high\n1,low\n")
    return folder
