"""Options and fixtures of all tests."""

import os
from pathlib import Path

import pytest
import torch

from speechbrain_wavjepa.frontends import ConvFrontend
from speechbrain_wavjepa.pretrained import write_pretrained
from speechbrain_wavjepa.transformer import TransformerEncoder
from speechbrain_wavjepa.wavjepa import WavJEPAEncoder

ROOT = Path(__file__).parent


def pytest_addoption(parser):
    """Let the tests run on a GPU."""
    parser.addoption("--device", default="cpu", help="cpu or cuda")


def pytest_collection_modifyitems(config, items):
    """Skip what needs a GPU unless the tests run on one."""
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
    torch.manual_seed(channels)
    model = WavJEPAEncoder(
        ConvFrontend(8, [[8, 240, 160]], channels), TransformerEncoder(16, 2, 4)
    )
    write_pretrained(folder, model)
    return folder
