"""A device that is not there is one line."""

import pytest

from speechbrain_wavjepa.utils.environment import find_device


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=f"--device {device} cannot be used"):
        find_device(device)
