"""What no tool checks of the recipes: yaml files and the tables of recipes."""

import csv
import difflib
import importlib
import re
from pathlib import Path

import pytest
from speechbrain.utils.run_opts import RunOptions

ROOT = Path(__file__).parents[2]
PRETRAINING = ROOT / "recipes" / "AudioSet" / "WavJEPA" / "hparams"
YAMLS = sorted((ROOT / "recipes").glob("**/hparams/*.yaml"))
COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,"
    "Result_url,HF_repo,test_debug_flags,test_debug_checks,performance"
).split(",")


def read_rows():
    """Read the tables of recipes; their columns are SpeechBrain's."""
    for table in sorted((ROOT / "tests" / "recipes").glob("*.csv")):
        with open(table, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            yield from reader
        assert reader.fieldnames == COLUMNS, table.name


def read_keys(path):
    """Read the top-level keys of a yaml and their plain values."""
    text = path.read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+):(.*?)(?:  #.*)?$", text, re.MULTILINE))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_yaml_header_seed_keys_and_names(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ####")
    keys = list(read_keys(path))
    assert keys[:2] == ["seed", "__set_seed"]
    script = "".join(
        file.read_text(encoding="utf-8")
        for file in path.parents[1].glob("*.py")
    )
    unused = [
        key
        for key in keys[2:]
        if key not in RunOptions().as_dict()
        and f"<{key}>" not in text
        and f'"{key}"' not in script
        and f"hparams.{key}" not in script
    ]
    assert unused == []
    for name in re.findall(r":speechbrain_wavjepa\.([\w.]+)", text):
        room, public = name.split(".")
        module = importlib.import_module(f"speechbrain_wavjepa.{room}")
        assert public in module.__all__, name


SCENE_KEYS = set(
    "brir_folder channel_order noises receivers scene_mixer scene_prob "
    "scene_sampler share_weights snr_db snr_per_channel".split()
)


@pytest.mark.parametrize(
    ("base", "variant", "more", "fewer", "changed"),
    [
        (
            "wavjepa",
            "wavjepa_nat",
            SCENE_KEYS | {"noise_folder"},
            set(),
            {"output_folder", "channels", "batch_size", "effective_batch"},
        ),
        (
            "wavjepa_mini",
            "wavjepa_nat_mini",
            SCENE_KEYS
            | {"compare_with", "synthetic_rooms", "synthetic_rooms_folder"},
            set(),
            set("output_folder channels batch_size total_steps".split())
            | {"effective_batch", "steps_per_epoch"},
        ),
        (
            "wavjepa",
            "wavjepa_mini",
            {"synthetic_folder", "synthetic_corpus", "probe_folds"},
            {"data_folder"},
            None,
        ),
    ],
)
def test_a_variant_differs_where_it_must(base, variant, more, fewer, changed):
    base, variant = (
        read_keys(PRETRAINING / f"{name}.yaml") for name in (base, variant)
    )
    assert set(variant) - set(base) == more
    assert set(base) - set(variant) == fewer
    found = {key for key in {*base} & {*variant} if base[key] != variant[key]}
    assert changed is None or found == changed


@pytest.mark.parametrize("name", ["", "_mini"])
@pytest.mark.parametrize("kind", ["leaf", "sinc", "mel"])
def test_a_front_end_of_filters_changes_nothing_else(kind, name):
    base, variant = (
        (PRETRAINING / f"wavjepa{part}{name}.yaml").read_text().splitlines()
        for part in ("", f"_{kind}")
    )
    lines = [x[2:] for x in difflib.ndiff(base, variant) if x[0] in "+-"]
    names = {line.strip(" -").split(":")[0].split(",")[0] for line in lines}
    options = {"layers", "init", "stride", "token_samples", "filter_stride"}
    options |= {"num_filters", "compression", "sample_rate", "filter_init"}
    options |= {"frontend", "frontend_layers", "output_folder", "[512"}
    assert names - options == {"# Encoder"}


def test_every_yaml_has_a_row():
    rows = [ROOT / row["Hparam_file"] for row in read_rows()]
    assert sorted(set(rows)) == YAMLS


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: row["Hparam_file"])
def test_a_row_names_what_exists(row):
    for column in COLUMNS[2:6]:
        assert not row[column] or (ROOT / row[column]).is_file(), column
    assert all(row[column] for column in ("Script_file", "Readme_file"))
    readme = (ROOT / row["Readme_file"]).read_text(encoding="utf-8")
    assert row["Result_url"] in readme and row["HF_repo"] in readme
    settings = {*read_keys(ROOT / row["Hparam_file"]), *RunOptions().as_dict()}
    flags = re.findall(r"--(\w+)=\S+", row["test_debug_flags"])
    assert flags and set(flags) <= settings
