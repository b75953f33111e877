"""What no tool checks of the package: core dependencies, versions, words."""

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "speechbrain_wavjepa"
EXTRAS = (
    "h5py matplotlib onnx onnxruntime onnxscript pyarrow pyroomacoustics "
    "safetensors sklearn tensorboard transformers"
).split()


FOLDERS = "benchmarks docs recipes speechbrain_wavjepa tests .ci".split()
FILES = [
    path
    for place in [ROOT.glob("*"), *((ROOT / f).rglob("*") for f in FOLDERS)]
    for path in place
    if path.is_file() and not {"results", "__pycache__"} & {*path.parts}
]
PAGES = [path for path in FILES if path.suffix == ".md"]


def read_pins():
    """Read constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if "==" in line]


def version_of(pin):
    """Read the version that a pin allows."""
    return next(iter(pin.specifier)).version


def test_every_room_needs_the_core_packages_alone():
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert len(rooms) == 9
    names = [f"speechbrain_wavjepa.{name}" for name in [*rooms, "cli"]]
    code = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
    code += f"import {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_has_one_pin_that_it_allows(python):
    wrong = []
    for needed in map(Requirement, requires("speechbrain-wavjepa")):
        versions = [
            version_of(pin)
            for pin in read_pins()
            if pin.name.lower() == needed.name.lower()
            and (
                not pin.marker
                or pin.marker.evaluate({"python_version": python})
            )
        ]
        if needed.name != "pre-commit" and (
            len(versions) != 1 or versions[0] not in needed.specifier
        ):
            wrong.append(f"{needed}: pinned {versions}")
    assert wrong == []


def test_commits_are_checked_by_the_tested_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    revisions = {
        Path(hook["repo"]).name.removesuffix("-pre-commit"): hook["rev"]
        for hook in hooks["repos"]
    }
    versions = {pin.name: version_of(pin) for pin in read_pins()}
    for tool in ("ruff", "yamllint", "codespell"):
        assert revisions[tool] == f"v{versions[tool]}"


def test_no_file_holds_what_does_not_belong_there():
    # one sign of each in brackets, so that this file holds none of them
    forbidden = (
        r"strict[=]False|\b[T]ODO\b|[N]otImplementedError|mark[.]skip\b"
        r"|/[h]ome/|/[w]ork/|/[r]oot/|/[t]mp/"
    )
    suffixes = (".py", ".md", ".yaml", ".toml", ".csv", "Makefile", "run")
    files = [path for path in FILES if path.name.endswith(suffixes)]
    assert len(files) > 100
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert [p for p, text in texts.items() if re.search(forbidden, text)] == []


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_a_page_names_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    # with one, from_hparams gives a second model the files of the first
    assert "savedir=" not in text
    names = re.findall(r"(?<![\w/.:*{}<>-])\w[\w./-]*\.(?:py|yaml|npz)\b", text)
    names += re.findall(r"`((?:benchmarks|docs|recipes|tests)/[\w./-]*)`", text)
    paths = [f"/{path.relative_to(ROOT).as_posix()}/" for path in FILES]
    assert [
        name
        for name in sorted({*names} - {"hyperparams.yaml"})  # runs write it
        if "results/" not in name
        and not any(f"/{name.rstrip('/')}/" in path for path in paths)
    ] == []
