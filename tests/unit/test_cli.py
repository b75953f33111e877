"""The command line: what it prints, and its exit codes."""

import numpy as np
import pytest
import soundfile

from speechbrain_wavjepa.cli import main


def test_embed_tells_what_it_skipped(pretrained_folder, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    (tmp_path / "b.wav").write_bytes(b"")
    output = tmp_path / "out.npz"
    arguments = ["embed", str(tmp_path), "--model", str(pretrained_folder)]
    assert main([*arguments, "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert f"Embedded 1 files: {output}" in printed.out
    assert "skipped: " in printed.err and "b.wav" in printed.err
    (tmp_path / "b.wav").unlink()
    assert main([*arguments, "--output", str(output)]) == 0


def test_info_evaluates_nothing(tmp_path, capsys):
    victim = tmp_path / "made"
    text = f"channels: 1\nmodel: !apply:os.mkdir [{victim}]\n"
    (tmp_path / "hyperparams.yaml").write_text(text)
    assert main(["info", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "from_hparams would run:\n  !apply:os.mkdir" in printed.out
    assert "wavjepa.ckpt cannot be read: it is missing" in printed.err
    assert not victim.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "nowhere has no hyperparams.yaml"),
        (["export", "nowhere", "--output", "a.pt2"], "nowhere has no hyper"),
        (
            ["export", "nowhere", "--output", "a.h5"],
            "must end in .pt2 or .onnx",
        ),
        (["convert", "nowhere.ckpt", "folder"], "no file nowhere.ckpt"),
        (
            ["embed", "nowhere", "--model", "a", "--output", "b.npz"],
            "nowhere is neither a file",
        ),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and message in line
    assert not list(tmp_path.iterdir())


def test_a_missing_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
