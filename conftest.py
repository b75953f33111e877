"""Options and fixtures of all tests."""

import os
from pathlib import Path

import pytest
import torch

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
