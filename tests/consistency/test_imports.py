"""Every way around the table of imports is noticed."""

import sys
from pathlib import Path

import checks
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "speechbrain_wavjepa"


def problems_of(folder, name, source):
    """Check a package of one file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return checks.import_problems(folder, set(sys.stdlib_module_names))


def script_imports(package, scripts):
    """Find imports of a recipe's, benchmark's or test's own modules."""
    return [
        f"{path.name} imports {name}"
        for path in sorted(package.rglob("*.py"))
        for name in checks.imported_names(path.read_text(encoding="utf-8"))
        if name.split(".")[0] in scripts
    ]


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("shards.py", "from .wavjepa import WavJEPA", "shards imports wavjepa"),
        ("shards.py", "from . import wavjepa", "shards imports wavjepa"),
        ("data/a.py", "from ..plots import draw", "data imports plots"),
        ("data/a.py", "from .. import plots", "data imports plots"),
        (
            "shards.py",
            "def late():\n    import speechbrain_wavjepa.plots",
            "shards imports plots",
        ),
        (
            "plots.py",
            "import speechbrain_wavjepa",
            "plots imports the whole package, which checks.py does not list",
        ),
        (
            "plots.py",
            "from speechbrain_wavjepa import pictures",
            "plots imports pictures, which checks.py does not list",
        ),
        ("__init__.py", "import torch", "__init__ imports torch"),
        (
            "surprise.py",
            "import math",
            "surprise is not in tests/consistency/checks.py",
        ),
        ("plots.py", "import recipes.train", "plots imports recipes.train"),
        ("embedding.py", "import soundfile", "embedding imports soundfile"),
        ("plots.py", "import speechbrain", "plots imports speechbrain"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, name, source, problem):
    assert problems_of(tmp_path, name, source) == [problem]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data/a.py", "from .clips import Clip\nfrom ..audio import resample"),
        ("shards.py", "from speechbrain_wavjepa import __version__"),
        ("wavjepa.py", "import math\nimport torch.nn\nfrom .masking import a"),
        ("checkpoints.py", "import speechbrain.utils.checkpoints"),
    ],
)
def test_a_right_import_is_let_through(tmp_path, name, source):
    assert problems_of(tmp_path, name, source) == []


def test_exceptions_are_of_listed_modules():
    named = {*checks.SAME_LEVEL, *checks.MODEL_CORE, *checks.WITH_SPEECHBRAIN}
    for others in checks.SAME_LEVEL.values():
        named |= others
    assert named <= set(checks.LEVELS)


def test_the_package_imports_no_script():
    # pytest finds these folders, an installed package does not
    scripts = {
        path.stem
        for folder in ("recipes", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {"train", "train_step", "checks"} <= scripts
    assert script_imports(PACKAGE, scripts) == []


def test_an_import_of_a_script_is_found(tmp_path):
    (tmp_path / "plots.py").write_text("from train import WavJEPABrain\n")
    assert script_imports(tmp_path, {"train"}) == [
        "plots.py imports train.WavJEPABrain"
    ]
