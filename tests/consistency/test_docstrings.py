"""Every gap in a docstring is noticed."""

import checks
import pytest

EXAMPLE = "Example\n-------\n>>> 1 + 1\n2\n"
ARGUMENTS = (
    "Arguments\n---------\nfirst : int\n    One.\nsecond : int\n    Two.\n"
)
RETURNS = "Returns\n-------\nint\n    Their sum.\n"


def problems_of(head, docstring, before=""):
    """Check a module of one documented function or class."""
    text = "\n".join(f"    {line}" for line in docstring.splitlines())
    return checks.docstring_problems(
        f'"""Module."""\n{head}\n    """Do it.\n\n{text}\n    """\n{before}'
    )


@pytest.mark.parametrize(
    ("head", "docstring", "problem"),
    [
        (
            "def add(first, *, third):",
            f"{ARGUMENTS}\n{EXAMPLE}",
            "add does not describe ['third']",
        ),
        (
            "def add(fir, second):",
            f"{ARGUMENTS}\n{EXAMPLE}",
            "add does not describe ['fir']",
        ),
        (
            "def add(first, second) -> int:",
            f"{ARGUMENTS}\n{EXAMPLE}",
            "add does not describe what it returns",
        ),
        (
            "def add(first, second) -> int:",
            f"{ARGUMENTS}\n{RETURNS}\nExample\n-------\nadd(1, 1)\n",
            "add has no runnable example",
        ),
    ],
)
def test_a_gap_is_found(head, docstring, problem):
    assert problems_of(head, docstring) == [problem]


def test_a_class_describes_the_arguments_of_its_constructor():
    constructor = "    def __init__(self, first, third): pass\n"
    assert problems_of(
        "class Adder:", f"{ARGUMENTS}\n{EXAMPLE}", constructor
    ) == ["Adder does not describe ['third']"]


def test_a_module_needs_a_docstring():
    assert checks.docstring_problems("answer = 42\n") == [
        "the module has no docstring"
    ]


@pytest.mark.parametrize(
    "head",
    [
        "def add(first, second) -> int:",
        "class Adder:",
        "def add(first) -> None:",
        "def _add(third):",
    ],
)
def test_a_whole_docstring_is_let_through(head):
    assert problems_of(head, f"{ARGUMENTS}\n{RETURNS}\n{EXAMPLE}") == []
