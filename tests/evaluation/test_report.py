"""Tables of scores beside published ones, and the paper's score s(m)."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from speechbrain_wavjepa.evaluation import report
from speechbrain_wavjepa.evaluation.report import (
    ARCH,
    HEAR,
    NAT_HEAR,
    TaskScore,
    format_scores,
    generalizability,
    main,
    read_scores,
)
from speechbrain_wavjepa.utils.plots import plot_confusion, plot_scores


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: bars, path and ranking of each picture."""
    pictures = []
    monkeypatch.setattr(report, "plot_scores", lambda *a: pictures.append(a))
    return pictures


def write(folder, **results):
    folder.mkdir(parents=True)
    path = folder / "test.predicted-scores.json"
    path.write_text(json.dumps(results))


def write_arch(folder, scores, std=0.0, repetition=0):
    for task, score in scores.items():
        (folder / task).mkdir(parents=True)
        results = {
            "main_score": "accuracy",
            "scores": {"accuracy": {"mean": score, "std": std}},
            "runs": [{"repetition": repetition}],
        }
        (folder / task / "arch-scores.json").write_text(json.dumps(results))


def test_scores_of_folds_and_of_one_split(tmp_path, capsys, drawn):
    folds = {"test_score_mean": 0.8, "test_score_std": 0.02}
    write(tmp_path / "own-v1-full", test={"test_score": 0.25})
    write(tmp_path / "esc50-v2.0.0-full", aggregated_scores=folds)
    (tmp_path / "embeddings").mkdir()
    write(tmp_path / ".pets.unfinished", test={"test_score": 0.75})
    assert read_scores(tmp_path) == [
        TaskScore("esc50-v2.0.0-full", 0.8, 0.02),
        TaskScore("own-v1-full", 0.25, None),
    ]
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "80.0 ± 2.0" in printed and "86.5" in printed
    bars = {"ESC-50": (80, 2), "own-v1-full": (25, 0)}
    path = tmp_path / "scores.png"
    assert drawn == [({tmp_path.name: bars}, path, {})]


def test_a_table_beside_published_scores():
    rows = [TaskScore("esc50-v2.0.0-full", 0.5, 0.04), TaskScore("own", 0.25)]
    assert format_scores(rows).splitlines() == [
        "task                    ours   WavJEPA B  wav2vec2 L   CREPE"
        "  HEAR-Naive",
        "ESC-50            50.0 ± 4.0        86.5        56.1    30.1"
        "           -",
        "own                     25.0           -           -       -"
        "           -",
    ]


def test_an_empty_folder_is_told(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no finished task" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "holds no score of this package: KeyError: 'test'"),
        ('{"test": 3}', "holds no score of this package"),
        ('{"test": {"test_score": "a"}}', r"\('a',\) are not numbers"),
        ("[" * 100_000, "cannot be read as json"),
    ],
)
def test_a_broken_file_of_scores_is_named(tmp_path, capsys, text, message):
    write(tmp_path / "esc50-v2.0.0-full", test={})
    path = tmp_path / "esc50-v2.0.0-full" / "test.predicted-scores.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_scores(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_arch_beside_the_paper_s_table_and_s_of_m(tmp_path, capsys, drawn):
    # HuBERT, trained on AudioSet, as if it were ours
    published = ARCH.figures["AudioSet HuBERT L"]
    scores = {ARCH.folders[name]: x / 100 for name, x in published.items()}
    write_arch(tmp_path / "mine", scores)
    assert main([str(tmp_path / "mine")]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("EMOVO"))
    assert row.split() == ["EMOVO", "38.6", "46.6", "38.6", "45.3", "18.4"]
    ranking = [line.rsplit(maxsplit=2) for line in lines[-18:-2]]
    found = {name: (here, printed) for name, here, printed in ranking[1:]}
    assert found["AudioSet HuBERT L"] == ("84.7", "83.9")
    assert found["mine"] == ("84.7", "-")
    assert set(drawn[0][2]) == {*ARCH.figures, "mine"}


def test_a_folder_named_as_a_published_row_replaces_nothing(
    tmp_path, capsys, drawn
):
    scores = dict.fromkeys(ARCH.folders.values(), 0.01)
    write_arch(tmp_path / "HEAR-Naive", scores)
    assert main([str(tmp_path / "HEAR-Naive")]) == 0
    printed = capsys.readouterr().out
    assert "AudioSet W2V2 B       54.1     53.8" in printed
    assert "HEAR-Naive (ours)" in printed


def test_one_data_set_of_arch_has_no_s_of_m(tmp_path, capsys, drawn):
    write_arch(tmp_path, {"esc50": 0.5}, std=0.01, repetition=2)
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "50.0 ± 1.0" in printed and "s(m)" not in printed


def test_s_of_m_over_a_baseline_of_ours(tmp_path, capsys, drawn):
    for name, score in (("naive", 0.2), ("random", 0.3), ("trained", 0.6)):
        write(tmp_path / name / "own-v1-full", test={"test_score": score})
    folders = [str(tmp_path / name) for name in ("naive", "random", "trained")]
    for baseline in (folders[0], f"{folders[0]}/", "naive"):
        assert main([*folders, "--baseline", baseline]) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["trained", "100.0", "-"] in rows
        assert ["random", "25.0", "-"] in rows
    assert main([*folders, "--baseline", "other"]) == 2
    assert "'other' is not in the table" in capsys.readouterr().err


def test_folders_of_the_same_name_are_told_apart(tmp_path, capsys, drawn):
    folders = [str(tmp_path / place / "hear") for place in ("a", "b")]
    for folder in folders:
        task = tmp_path / folder / "own-v1-full"
        write(task, test={"test_score": 0.5})
    assert main(folders) == 0
    printed = capsys.readouterr().out.splitlines()
    assert all(folder in printed for folder in folders)
    assert main([*folders, "--baseline", "hear"]) == 2  # which of them?


def test_one_folder_for_both_suites_is_refused(tmp_path, capsys):
    write_arch(tmp_path, {"esc50": 0.5})
    write(tmp_path / "own-v1-full", test={"test_score": 0.25})
    assert main([str(tmp_path)]) == 2
    assert "holds scores of HEAR and of ARCH" in capsys.readouterr().err


def test_names_that_matplotlib_would_read_as_formulas(tmp_path):
    """Seen: a task with such a label was refused after all its training."""
    name = "$x_{$" + "a" * 5000
    rows = np.eye(2)
    np.savez(tmp_path / "a.npz", logits=rows, targets=rows)
    plot_confusion(tmp_path / "a.npz", [name, "b"], tmp_path / "a.png")
    plot_scores({name: {name: (1, 0)}}, tmp_path / "b.png", {name: 1})
    for path in tmp_path.glob("*.png"):
        height, width, _ = imread(path).shape
        assert height < 2000 and width < 4000


def test_the_printed_column_of_the_arch_table():
    """Rounded cells and unprinted rows of the paper explain the rest."""
    scores = generalizability(ARCH.figures)
    assert set(scores) == set(ARCH.printed)
    for model, printed in ARCH.printed.items():
        assert -0.1 < scores[model] - printed < 1.3, model


def test_an_unprinted_row_brings_it_nearer():
    """The largest HuBERT of the ARCH authors, on the tasks that it leads."""
    unprinted = {"RAVDESS": 75.7, "SLURP": 47.8, "EMOVO": 47.2}
    row = {**ARCH.figures["HEAR-Naive"], **unprinted}
    scores = generalizability({**ARCH.figures, "HuBERT XL": row})
    for model, printed in ARCH.printed.items():
        assert abs(scores[model] - printed) < 0.55, model


def test_tasks_on_which_nobody_gains_count():
    figures = {"b": {"x": 50.0, "y": 90.0}, "m": {"x": 80.0, "y": 10.0}}
    assert generalizability(figures, "b") == {"b": 0.0, "m": 50.0}


def test_missing_figures_are_refused():
    with pytest.raises(ValueError, match="baseline 'b' is not in the table"):
        generalizability({"m": {"x": 1.0}}, "b")
    with pytest.raises(ValueError, match=r"m and b .* \['y'\]"):
        generalizability({"b": {"x": 1.0, "y": 2.0}, "m": {"x": 1.0}}, "b")


def test_published_rows_name_the_suite_s_tasks():
    """Of the HEAR baseline some cells of the paper's table are known only."""
    assert all(set(row) == set(ARCH.folders) for row in ARCH.figures.values())
    for model, row in HEAR.figures.items():
        whole = model != "HEAR-Naive"
        assert (set(row) == set(HEAR.folders)) == whole and row
    assert NAT_HEAR.folders.items() <= HEAR.folders.items()
    assert NAT_HEAR.figures["HEAR-Naive"]["NS"] == 78.6
