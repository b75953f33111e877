"""The rules of CONTRIBUTING.md and docs/architecture.md, held by tests."""

import csv
import importlib
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import checks
import pytest
from speechbrain.utils.run_opts import RunOptions

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "speechbrain_wavjepa"
RECIPE = ROOT / "recipes" / "AudioSet" / "WavJEPA"
YAMLS = sorted((ROOT / "recipes").glob("**/hparams/*.yaml"))
PAGES = [
    path
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "recipes").rglob("*.md"),
    ]
    if ".venv" not in path.parts
]


EXTRAS = (
    "h5py matplotlib onnx onnxruntime onnxscript pyarrow pyroomacoustics "
    "safetensors sklearn tensorboard transformers"
).split()


def test_every_room_needs_the_core_packages_alone():
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    code = "import sys\n"
    code += f"sys.modules.update(dict.fromkeys({EXTRAS}))\n"
    code += f"import {', '.join(f'speechbrain_wavjepa.{r}' for r in rooms)}\n"
    code += "import speechbrain_wavjepa.cli"
    assert len(rooms) == 9
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_yaml_names_are_public(path):
    text = path.read_text(encoding="utf-8")
    names = re.findall(r":speechbrain_wavjepa\.([\w.]+)", text)
    assert names
    for name in names:
        room, public = name.split(".")
        module = importlib.import_module(f"speechbrain_wavjepa.{room}")
        assert public in module.__all__, name


def test_no_file_holds_what_does_not_belong_there():
    paths = [
        path
        for path in checks.source_files(ROOT)
        if "consistency" not in path.relative_to(ROOT).parts
    ]
    assert len(paths) > 50
    assert checks.forbidden_text(paths) == []


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_yaml_header_seed_and_keys(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ####")
    keys = re.findall(r"^(\w+):", text, flags=re.MULTILINE)
    assert keys[:2] == ["seed", "__set_seed"]
    script = "".join(
        file.read_text(encoding="utf-8")
        for file in sorted(path.parents[1].glob("*.py"))
    )
    run_options = RunOptions().as_dict()
    assert checks.unused_yaml_keys(text, script, run_options) == []


def test_the_yaml_check_finds_an_unused_key():
    yaml = "used: 1\nother: !ref <used>\nforgotten: 2\nread: 3\n"
    script = 'hparams["read"] + hparams.other'
    assert checks.unused_yaml_keys(yaml, script, {}) == ["forgotten"]


def read_keys(name):
    """Read the top-level keys of a yaml and their plain values."""
    text = (RECIPE / "hparams" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+):(.*?)(?:  #.*)?$", text, re.MULTILINE))


def test_mini_differs_from_the_paper_in_values_only():
    paper, mini = read_keys("wavjepa.yaml"), read_keys("wavjepa_mini.yaml")
    assert set(paper) - set(mini) == {"data_folder"}
    assert set(mini) - set(paper) == {
        "synthetic_folder",
        "synthetic_corpus",
        "probe_folds",
    }


SCENE_KEYS = {
    "brir_folder",
    "channel_order",
    "noises",
    "receivers",
    "scene_mixer",
    "scene_prob",
    "scene_sampler",
    "snr_db",
    "snr_per_channel",
}


@pytest.mark.parametrize(
    "clean, nat, more_keys, other_values",
    [
        (
            "wavjepa.yaml",
            "wavjepa_nat.yaml",
            {"noise_folder"},
            {"output_folder", "channels", "clips_per_batch"},
        ),
        (
            "wavjepa_mini.yaml",
            "wavjepa_nat_mini.yaml",
            {"compare_with", "synthetic_rooms", "synthetic_rooms_folder"},
            {
                "output_folder",
                "channels",
                "clips_per_batch",
                "total_steps",
                "batches_per_epoch",
            },
        ),
    ],
)
def test_nat_differs_where_scenes_and_ears_matter(
    clean, nat, more_keys, other_values
):
    clean, nat = read_keys(clean), read_keys(nat)
    assert set(clean) <= set(nat)
    assert set(nat) - set(clean) == SCENE_KEYS | more_keys
    assert {k for k in clean if clean[k] != nat[k]} == other_values


def test_every_yaml_has_a_row_in_the_table_of_recipes():
    rows = []
    for table in (ROOT / "tests" / "recipes").glob("*.csv"):
        with open(table, encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    assert {ROOT / row["Hparam_file"] for row in rows} == set(YAMLS)
    for row in rows:
        assert row["test_debug_flags"]
        for column in ("Script_file", "Hparam_file", "Readme_file"):
            assert (ROOT / row[column]).exists(), row[column]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    assert checks.broken_links(page) == []


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)", readme, flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_the_installed_set_is_the_tested_one():
    import speechbrain
    import torch
    import torchaudio

    assert (
        torch.__version__.split(".")[:2]
        == (torchaudio.__version__.split(".")[:2])
    )
    assert speechbrain.__version__ == version("speechbrain")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    pins = dict(line.split("==") for line in lines if "==" in line)
    for name in ("torch", "torchaudio", "speechbrain"):
        assert version(name).split("+")[0] == pins[name]
