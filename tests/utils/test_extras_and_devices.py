"""What is not there is one line that says what to do; seeds are stable."""

import pytest
import torch

from speechbrain_wavjepa.utils.environment import find_device, require
from speechbrain_wavjepa.utils.seed import stable_seed
from speechbrain_wavjepa.utils.strict_module import StrictModule


def test_a_missing_package_names_the_extra():
    with pytest.raises(ValueError, match=r"package nowhere:.*'\.\[scenes\]'"):
        require("nowhere.inside", "scenes")


def test_what_is_missing_in_a_package_is_not_blamed_on_it(
    tmp_path, monkeypatch
):
    (tmp_path / "half_installed.py").write_text("import nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        require("half_installed", "scenes")


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=f"--device {device} cannot be used"):
        find_device(device)


def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *_, device: device)
    assert find_device(None) == "cuda"
    assert find_device("cpu") == "cpu"


def test_seeds_depend_on_the_order_and_on_nothing_else():
    assert stable_seed(1, 2) == 7777801250388762567
    assert stable_seed(2, 1) != stable_seed(1, 2)


def test_weights_are_loaded_whole_whatever_is_asked_for():
    with pytest.raises(RuntimeError, match="Error.* in loading state_dict"):
        StrictModule().load_state_dict({"weight": torch.ones(1)}, False)
