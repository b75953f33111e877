"""The paper's score s(m)."""

import pytest

from speechbrain_wavjepa.evaluation.report import (
    ARCH_PRINTED_SCORES,
    ARCH_PUBLISHED,
    HEAR_PUBLISHED,
    HEAR_TASKS,
    NAT_HEAR_PUBLISHED,
    generalizability,
)


def test_the_printed_column_of_the_arch_table():
    """Rounded cells and unprinted rows of the paper explain the rest."""
    scores = generalizability(ARCH_PUBLISHED)
    assert set(scores) == set(ARCH_PRINTED_SCORES)
    for model, printed in ARCH_PRINTED_SCORES.items():
        assert -0.1 < scores[model] - printed < 1.3, model


def test_an_unprinted_row_brings_it_nearer():
    """The largest HuBERT of the ARCH authors, on the tasks that it leads."""
    tops = {
        task: max(row[task] for row in ARCH_PUBLISHED.values())
        for task in ARCH_PUBLISHED["WavJEPA B"]
    }
    tops |= {"RAVDESS": 75.7, "SLURP": 47.8, "EMOVO": 47.2}
    scores = generalizability(ARCH_PUBLISHED, best=tops)
    for model, printed in ARCH_PRINTED_SCORES.items():
        assert abs(scores[model] - printed) < 0.55, model


def test_tasks_on_which_nobody_gains_count():
    figures = {"b": {"x": 50.0, "y": 90.0}, "m": {"x": 80.0, "y": 10.0}}
    assert generalizability(figures, "b") == {"b": 0.0, "m": 50.0}
    frozen = generalizability(figures, "b", {"x": 60.0, "y": 95.0})
    assert frozen["m"] == 50.0


def test_missing_figures_are_refused():
    with pytest.raises(ValueError, match="baseline 'b' is not in the table"):
        generalizability({"m": {"x": 1.0}}, "b")
    with pytest.raises(ValueError, match=r"m and b .* \['y'\]"):
        generalizability({"b": {"x": 1.0, "y": 2.0}, "m": {"x": 1.0}}, "b")


def test_published_rows_name_the_suite_s_tasks():
    assert {len(row) for row in ARCH_PUBLISHED.values()} == {12}
    assert set(HEAR_PUBLISHED["WavJEPA B"]) == set(HEAR_TASKS)
    for table in (HEAR_PUBLISHED, NAT_HEAR_PUBLISHED):
        for row in table.values():
            assert set(row) <= set(HEAR_TASKS)
