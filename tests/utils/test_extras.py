"""A missing extra is one line that names it."""

import pytest

from speechbrain_wavjepa.utils.environment import require


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
