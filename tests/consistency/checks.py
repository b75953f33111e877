"""What the consistency tests check, on any tree of files."""

import ast
import os
import re
from pathlib import Path

# The modules of each level; a file imports lower levels only. Some names are
# of the design and have no file yet.
MODULES = (
    "utils",
    "audio bank_files collapse layer_sum masking packing positions "
    "reverberation schedulers sparse_gradient step_log transformer weights "
    "window_layout windows",
    "bank_import bank_layouts bank_maker data filterbanks frontends "
    "head_directivity heads hyperparams model_card noises official "
    "predictor preparation room_simulation rooms scene_sampler scenes "
    "shards synthetic synthetic_noises synthetic_sounds targets",
    "downstream embedding inference official_keys official_sizes wavjepa",
    "checkpoints classifier_settings model_settings plots scene_plots "
    "streaming",
    "official_writer pretrained",
    "convert embed_files export hear",
    "cli",
)
LEVELS = {
    name: level for level, names in enumerate(MODULES) for name in names.split()
}
# Imports within a level that the design allows.
SAME_LEVEL = {
    "bank_import": {"bank_layouts", "bank_maker", "data", "rooms"},
    "bank_layouts": {"rooms"},
    "bank_maker": {"data", "heads", "room_simulation", "rooms"},
    "data": {"data"},
    "noises": {"data"},
    "head_directivity": {"heads"},
    "room_simulation": {"head_directivity", "heads", "reverberation"},
    "scene_sampler": {"scenes"},
    "shards": {"data"},
    "transformer": {"packing"},
    "utils": {"utils"},
    "synthetic": {"data", "synthetic_sounds"},
    "downstream": {"embedding", "downstream"},
}
# The model needs nothing but these and the standard library.
MODEL_CORE = {
    *(name for name, level in LEVELS.items() if level == 1),
    "frontends",
    "targets",
    "predictor",
    "wavjepa",
    "embedding",
}
CORE_PACKAGES = {"torch", "torchaudio", "numpy", "soxr"}
WITH_SPEECHBRAIN = {
    "utils",
    "data",
    "filterbanks",
    "checkpoints",
    "pretrained",
    "hear",
}
FORBIDDEN_PACKAGES = {"recipes", "tests", "benchmarks"}


def imported_names(source, package=()):
    """List the absolute dotted names that a file of a package imports."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # one dot is the file's own package, each further dot one above
            keep = len(package) + 1 - node.level if node.level else 0
            parts = [*package[:keep], *filter(None, [node.module])]
            names += [".".join([*parts, alias.name]) for alias in node.names]
    return names


def import_problems(package, standard_library):
    """Compare the imports of a package folder with the table above."""
    problems = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        module = inside.with_suffix("").parts[0]
        names = imported_names(
            path.read_text(encoding="utf-8"),
            ("speechbrain_wavjepa", *inside.parts[:-1]),
        )
        if module == "__init__":
            problems += [f"__init__ imports {name}" for name in names]
        elif module not in LEVELS:
            problems.append(f"{module} is not in tests/consistency/checks.py")
        else:
            found = [
                import_problem(module, name, standard_library) for name in names
            ]
            problems += [problem for problem in found if problem]
    return problems


def import_problem(module, name, standard_library):
    """Say what is wrong with an import of a module; None if nothing is."""
    first, *rest = name.split(".")
    if first == "speechbrain_wavjepa":
        other = rest[0] if rest else "the whole package"
        if other == "__version__" or other in SAME_LEVEL.get(module, ()):
            return None
        if other not in LEVELS:
            return f"{module} imports {other}, which checks.py does not list"
        lower = LEVELS[other] < LEVELS[module]
        return None if lower else f"{module} imports {other}"
    if first in FORBIDDEN_PACKAGES:
        return f"{module} imports {name}"
    if first == "speechbrain":
        allowed = module in WITH_SPEECHBRAIN
    else:
        core = CORE_PACKAGES | standard_library
        allowed = module not in MODEL_CORE or first in core
    return None if allowed else f"{module} imports {first}"


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
