"""Every text that does not belong into the repository is noticed."""

import checks
import pytest


def write(root, name, text=""):
    """Write a file and the folders above it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "load_state_dict(state, strict=False)",
        "try:\n    pass\nexcept:\n    pass\n",
        "# TODO later",
        "# FIXME",
        "raise NotImplementedError",
        "@pytest.mark.skip",
        "data_folder: /home/me/data",
        "/".join(("cd ", "work", "main")),
        "/".join(("PYTHON = ", "root", "python")),
        "out = '/tmp/out'",
    ],
)
def test_a_forbidden_text_is_found(tmp_path, text):
    path = write(tmp_path, "file.py", text)
    (problem,) = checks.forbidden_text([path])
    assert problem.startswith(f"{path} holds ")


def test_a_conditional_skip_and_a_named_error_are_let_through(tmp_path):
    text = "pytest.mark.skipif(True)\ntry:\n    f()\nexcept OSError:\n    g()\n"
    path = write(tmp_path, "file.py", text)
    assert checks.forbidden_text([path]) == []


def test_what_runs_have_made_is_no_source(tmp_path):
    root = tmp_path / "results"
    sources = [
        write(root, name)
        for name in (".ci/run", "Makefile", "a/b.py", "c.md", "d.yaml")
    ]
    for name in (
        ".venv/lib/a.py",
        ".git/a.py",
        "a/results/log.txt",
        "a.egg-info/requires.txt",
        "a/picture.png",
    ):
        write(root, name)
    assert checks.source_files(root) == sources
