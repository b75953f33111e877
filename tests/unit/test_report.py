"""Tables of scores beside published ones."""

import json

from speechbrain_wavjepa.downstream.report import (
    TaskScore,
    format_scores,
    main,
    read_scores,
)


def write(folder, **results):
    folder.mkdir(parents=True)
    path = folder / "test.predicted-scores.json"
    path.write_text(json.dumps(results))


def test_scores_of_folds_and_of_one_split(tmp_path, capsys):
    folds = {"test_score_mean": 0.8, "test_score_std": 0.02}
    write(tmp_path / "esc50-v2.0.0-full", aggregated_scores=folds)
    write(tmp_path / "own-v1-full", test={"test_score": 0.25})
    (tmp_path / "embeddings").mkdir()
    assert read_scores(tmp_path) == [
        TaskScore("esc50-v2.0.0-full", 0.8, 0.02),
        TaskScore("own-v1-full", 0.25, None),
    ]
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "80.0 ± 2.0" in printed and "86.5" in printed
    assert (tmp_path / "scores.png").stat().st_size > 5000


def test_tasks_that_nobody_published_have_no_figure():
    row = format_scores([TaskScore("own-v1-full", 0.25)]).splitlines()[1]
    assert row.split() == ["own-v1-full", "25.0", *"----"]


def test_an_empty_folder_is_told(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no finished task" in capsys.readouterr().err
