"""The table of recipes names what exists and settings that are read."""

import csv
import re
from pathlib import Path

import pytest
from speechbrain.utils.run_opts import RunOptions

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "tests" / "recipes").glob("*.csv"))
COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,"
    "Result_url,HF_repo,test_debug_flags,test_debug_checks,performance"
).split(",")


def read_rows(table):
    """Read a table of recipes; its columns are SpeechBrain's."""
    with open(table, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS, table.name
    return rows


def row_problems(root, row, run_options):
    """Find files and settings of a row that do not exist."""
    problems = []
    if None in row or None in row.values():
        problems.append("the row has more or fewer cells than the header")
    for column in ("Script_file", "Hparam_file", "Readme_file"):
        if not row[column]:
            problems.append(f"{column} is empty")
    for column in COLUMNS[2:6]:
        if row[column] and not (root / row[column]).is_file():
            problems.append(f"{column} {row[column]} does not exist")
    if problems:
        return problems
    readme = (root / row["Readme_file"]).read_text(encoding="utf-8")
    for column in ("Result_url", "HF_repo"):
        if row[column] not in readme:
            problems.append(f"{row[column]} is not in {row['Readme_file']}")
    yaml = (root / row["Hparam_file"]).read_text(encoding="utf-8")
    settings = {*re.findall(r"^(\w+):", yaml, re.MULTILINE), *run_options}
    for flag in row["test_debug_flags"].split():
        found = re.fullmatch(r"--(\w+)=\S+", flag)
        if not found or found.group(1) not in settings:
            problems.append(f"{flag} is no setting of {row['Hparam_file']}")
    return problems


ROWS = [row for table in TABLES for row in read_rows(table)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Hparam_file"])
def test_a_row_names_what_exists(row):
    assert row_problems(ROOT, row, RunOptions().as_dict()) == []


def test_the_paper_and_the_small_setting_have_rows():
    names = {Path(row["Hparam_file"]).name for row in ROWS}
    assert {"wavjepa.yaml", "wavjepa_mini.yaml"} <= names


@pytest.fixture
def row(tmp_path):
    """A right row and its files."""
    (tmp_path / "train.py").write_text("")
    (tmp_path / "a.yaml").write_text("lr: 1\n")
    (tmp_path / "README.md").write_text("See hub/model.\n")
    return {
        **dict.fromkeys(COLUMNS, ""),
        "Script_file": "train.py",
        "Hparam_file": "a.yaml",
        "Readme_file": "README.md",
        "HF_repo": "hub/model",
        "test_debug_flags": "--lr=2 --precision=fp32",
    }


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        (
            "performance",
            None,
            "the row has more or fewer cells than the header",
        ),
        ("Script_file", "", "Script_file is empty"),
        ("Data_prep_file", "no.py", "Data_prep_file no.py does not exist"),
        ("HF_repo", "hub/other", "hub/other is not in README.md"),
        (
            "test_debug_flags",
            "--lr=2 --learning_rte=3",
            "--learning_rte=3 is no setting of a.yaml",
        ),
        ("test_debug_flags", "--lr 2", "--lr is no setting of a.yaml"),
    ],
)
def test_a_wrong_row_is_found(tmp_path, row, column, cell, problem):
    assert row_problems(tmp_path, row, {"precision": "fp32"}) == []
    row[column] = cell
    assert row_problems(tmp_path, row, {"precision": "fp32"})[0] == problem
