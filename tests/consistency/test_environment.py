"""The installed, the allowed and the tested versions agree."""

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def read_pins(text):
    """Read the lines of a constraints file."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line]


def pin_problems(requirements, pins, python):
    """Find requirements without one pin within the range that they allow."""
    problems = []
    for requirement in map(Requirement, requirements):
        versions = [
            next(iter(pin.specifier)).version
            for pin in pins
            if pin.name.lower() == requirement.name.lower()
            and (
                not pin.marker
                or pin.marker.evaluate({"python_version": python})
            )
        ]
        if len(versions) != 1:
            problems.append(f"{requirement.name} has {len(versions)} pins")
        elif versions[0] not in requirement.specifier:
            problems.append(f"{requirement} does not allow {versions[0]}")
    return problems


@pytest.fixture
def settings(monkeypatch):
    """What setup.py tells setuptools."""
    told = {}
    fake = SimpleNamespace(
        setup=lambda **given: told.update(given),
        find_packages=lambda include: [],
    )
    # setup.py is read without setuptools, which need not be installed
    monkeypatch.setitem(sys.modules, "setuptools", fake)
    runpy.run_path(str(ROOT / "setup.py"))
    return told


@pytest.fixture
def pins():
    """The tested versions."""
    return read_pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_the_core_needs_the_packages_of_the_field_only(settings):
    names = [Requirement(line).name for line in settings["install_requires"]]
    assert names == [
        "speechbrain",
        "torch",
        "torchaudio",
        "hyperpyyaml",
        "sentencepiece",
        "numpy",
        "scipy",
        "soundfile",
        "soxr",
    ]


def test_torch_and_torchaudio_have_one_minor_version(settings):
    ranges = {
        requirement.name: requirement.specifier
        for requirement in map(Requirement, settings["install_requires"])
    }
    assert ranges["torch"] == ranges["torchaudio"]
    allowed = [
        minor for minor in range(50) if f"2.{minor}.0" in ranges["torch"]
    ]
    assert allowed == [11]


def test_the_version_is_that_of_the_package(settings):
    from speechbrain_wavjepa import __version__

    assert settings["version"] == __version__
    assert settings["python_requires"] == f">={PYTHONS[0]}"


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_tested_is_pinned(settings, pins, python):
    extras = settings["extras_require"]
    requirements = [
        *settings["install_requires"],
        *extras["test"],
        *extras["eval"],
    ]
    assert pin_problems(requirements, pins, python) == []


def test_a_wrong_pin_is_found():
    pins = read_pins(
        "torch==2.15.0  # too new\n\nsoxr==1.0\nSOXR==1.1\n"
        'numpy==2.4; python_version >= "3.11"\nruff==1.0\n'
    )
    requirements = ["torch<2.12", "soxr", "numpy", "ruff>=0.12"]
    assert pin_problems(requirements, pins, "3.10") == [
        "torch<2.12 does not allow 2.15.0",
        "soxr has 2 pins",
        "numpy has 0 pins",
    ]


def test_commits_are_checked_by_the_tested_tools(pins):
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    revisions = {
        re.sub("-pre-commit$", "", repository["repo"].rsplit("/", 1)[1]): (
            repository["rev"]
        )
        for repository in yaml.safe_load(text)["repos"]
    }
    versions = {pin.name: next(iter(pin.specifier)).version for pin in pins}
    for tool in ("ruff", "yamllint", "codespell"):
        assert revisions[tool] == f"v{versions[tool]}"
