"""Files that the documentation names exist."""

import re
from pathlib import Path

import checks
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in checks.source_files(ROOT)
    if path.suffix == ".md" and path.name != "CHANGELOG.md"
]
# what is no part of a longer path, address, pattern or option
FILE_NAME = r"(?<![\w/.:*{}<>-])\w[\w./-]*\.(?:py|md|yaml|toml|npz)\b"
WRITTEN = {"hyperparams.yaml"}  # by every run
FOLDER_NAME = r"`((?:benchmarks|docs|recipes|tests)/[\w./-]*)`"


def missing_files(text, files):
    """List file and folder names of a text that no file's path has."""
    names = set(re.findall(FILE_NAME, text))
    names |= set(re.findall(FOLDER_NAME, text))
    return sorted(
        name
        for name in names
        if "results/" not in name
        and name not in WRITTEN
        and not any(
            f"/{file}".endswith(f"/{name}")
            or f"{file}/".startswith(f"{name.rstrip('/')}/")
            for file in files
        )
    )


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_files_named_on_a_page_exist(page):
    files = [
        path.relative_to(ROOT).as_posix()
        for path in [
            *checks.source_files(ROOT),
            *(ROOT / "tests").rglob("*.npz"),
        ]
    ]
    assert missing_files(page.read_text(encoding="utf-8"), files) == []


@pytest.mark.parametrize(
    "path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_no_page_suggests_a_savedir(path):
    """With one, from_hparams gives a second model the files of the first."""
    assert "savedir=" not in path.read_text(encoding="utf-8")


def test_a_missing_file_is_found():
    files = ["package/audio.py", "tests/nnet/test_audio.py", "recipes/A/a.yaml"]
    text = (
        "Read `audio.py`, `nnet/test_audio.py`, `tests/nnet` and `recipes/`,"
        " https://example.org/docs/page.md, /path/to/my.yaml, *.npz;\n"
        "`vision.py`, `docs/` and\n    python train.py hparams/b.yaml --lr 1\n"
    )
    assert missing_files(text, files) == [
        "docs/",
        "hparams/b.yaml",
        "train.py",
        "vision.py",
    ]
