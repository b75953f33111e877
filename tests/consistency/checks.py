"""What the consistency tests check, on any tree of files."""

import ast
import re

# Level of each module; a file imports lower levels only.
LEVELS = {
    "audio": 0,
    "collapse": 0,
    "masking": 0,
    "packing": 0,
    "positions": 0,
    "schedulers": 0,
    "sparse_gradient": 0,
    "step_log": 0,
    "transformer": 0,
    "windows": 0,
    "data": 1,
    "frontends": 1,
    "predictor": 1,
    "shards": 1,
    "synthetic": 1,
    "synthetic_sounds": 1,
    "targets": 1,
    "downstream": 2,
    "embedding": 2,
    "wavjepa": 2,
    "checkpoints": 3,
    "convert": 3,
    "plots": 3,
}
# Imports within a level that the design allows.
SAME_LEVEL = {
    "data": {"data"},
    "shards": {"data"},
    "transformer": {"packing"},
    "synthetic": {"synthetic_sounds"},
    "downstream": {"embedding", "downstream"},
}
# The model needs nothing but these and the standard library.
MODEL_CORE = {
    *(name for name, level in LEVELS.items() if level == 0),
    "frontends",
    "targets",
    "predictor",
    "wavjepa",
    "embedding",
}
CORE_PACKAGES = {"torch", "torchaudio", "numpy", "soxr"}
WITH_SPEECHBRAIN = {"data", "checkpoints", "pretrained", "hear"}
FORBIDDEN_PACKAGES = {"recipes", "tests", "benchmarks"}


def imported_names(source):
    """List the dotted names that a source file imports."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def import_problems(package, standard_library):
    """Compare the imports of a package folder with the table above."""
    problems = []
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).with_suffix("").parts[0]
        if module == "__init__":
            continue
        if module not in LEVELS:
            problems.append(f"{module} is not in tests/consistency/checks.py")
            continue
        for name in imported_names(path.read_text(encoding="utf-8")):
            parts = name.split(".")
            if parts[0] == "speechbrain_wavjepa":
                other = parts[1]
                allowed = other in SAME_LEVEL.get(module, ())
                if not allowed and LEVELS[other] >= LEVELS[module]:
                    problems.append(f"{module} imports {other}")
            elif parts[0] in FORBIDDEN_PACKAGES:
                problems.append(f"{module} imports {name}")
            elif parts[0] == "speechbrain":
                if module not in WITH_SPEECHBRAIN:
                    problems.append(f"{module} imports speechbrain")
            elif module in MODEL_CORE and parts[0] not in (
                CORE_PACKAGES | standard_library
            ):
                problems.append(f"{module} imports {parts[0]}")
    return problems


LINE_LIMITS = (
    ("speechbrain_wavjepa/**/*.py", 300),
    ("recipes/**/train.py", 350),
    ("recipes/**/*.yaml", 200),
)
FORBIDDEN_TEXT = (
    r"strict=Fal" r"se",
    r"except:",
    r"\bTO" r"DO\b",
    r"\bFIX" r"ME\b",
    r"NotImplemented" r"Error",
    r"/ho" r"me/",
    r"/wo" r"rk/",
    r"/ro" r"ot/",
)


def layout_problems(root, paths):
    """Find files that are too long or hold what does not belong there."""
    problems = []
    for pattern, limit in LINE_LIMITS:
        for path in root.glob(pattern):
            if "results" in path.parts:
                continue
            count = len(path.read_text(encoding="utf-8").splitlines())
            if count >= limit:
                problems.append(f"{path} has {count} lines, {limit} allowed")
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for pattern in FORBIDDEN_TEXT:
            if re.search(pattern, text):
                problems.append(f"{path} holds {pattern}")
    return problems


def docstring_problems(source):
    """Find public classes and functions without a proper docstring."""
    tree = ast.parse(source)
    problems = []
    if not ast.get_docstring(tree):
        problems.append("the module has no docstring")
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        if node.name.startswith("_"):
            continue
        text = ast.get_docstring(node) or ""
        if "Example\n-------" not in text or ">>>" not in text:
            problems.append(f"{node.name} has no runnable example")
        function = node
        if isinstance(node, ast.ClassDef):
            found = [
                item
                for item in node.body
                if getattr(item, "name", "") == "__init__"
            ]
            function = found[0] if found else None
        if function is None:
            continue
        names = [item.arg for item in function.args.args if item.arg != "self"]
        if names and "Arguments\n---------" not in text:
            problems.append(f"{node.name} does not describe its arguments")
        missing = [name for name in names if name not in text]
        if missing:
            problems.append(f"{node.name} does not describe {missing}")
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
