"""What the consistency tests check, on any tree of files."""

import os
import re
from pathlib import Path

# One sign of each stands in brackets, so that this file holds none of them.
FORBIDDEN_TEXT = (
    r"strict[=]False",
    r"except[:]",
    r"\b[T]ODO\b",
    r"\b[F]IXME\b",
    r"[N]otImplementedError",
    r"mark[.]skip\b",
    r"/[h]ome/",
    r"/[w]ork/",
    r"/[r]oot/",
    r"/[t]mp/",
)
TEXT_SUFFIXES = (".py", ".md", ".yaml", ".toml", ".txt", ".csv", "Makefile")
NOT_SOURCE = {".git", ".venv", "__pycache__", "build", "dist", "results"}


def source_files(root):
    """List the text files of a repository, without what runs have made."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in NOT_SOURCE and not name.endswith(".egg-info")
        ]
        found += [Path(folder) / name for name in names]
    return sorted(
        path
        for path in found
        if path.name.endswith(TEXT_SUFFIXES) or path.parent.name == ".ci"
    )


def forbidden_text(paths):
    """Find what does not belong into files of the repository."""
    problems = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        problems += [
            f"{path} holds {pattern}"
            for pattern in FORBIDDEN_TEXT
            if re.search(pattern, text)
        ]
    return problems


def unused_yaml_keys(yaml_text, script_text, run_options):
    """Find top-level keys that neither script nor yaml nor toolkit uses."""
    keys = re.findall(r"^(\w+):", yaml_text, flags=re.MULTILINE)
    return [
        key
        for key in keys
        if not key.startswith("__")
        and key not in run_options
        and f"<{key}>" not in yaml_text
        and f'"{key}"' not in script_text
        and f"hparams.{key}" not in script_text
    ]


def broken_links(page):
    """Find relative links of a Markdown page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    return [
        link
        for link in links
        if "://" not in link and not (page.parent / link).exists()
    ]
