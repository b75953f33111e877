"""The command line: what it prints, and its exit codes."""

import errno
import os
import signal
import time

import numpy as np
import pytest
import soundfile
from official_factory import make_model, official_weights, write_checkpoint

from speechbrain_wavjepa.cli import main
from speechbrain_wavjepa.inference import (
    export,
    files,
    load_pretrained,
    pretrained,
)
from speechbrain_wavjepa.integrations import official
from speechbrain_wavjepa.lobes import WavJEPAEncoder
from speechbrain_wavjepa.utils.processes import END_SIGNALS

EMBED = ["embed", "nowhere", "--model", "a", "--output", "b.npz"]


def test_embed_tells_what_it_skipped(
    pretrained_folder, tmp_path, capsys, monkeypatch
):
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    (tmp_path / "b.wav").write_bytes(b"")
    output = tmp_path / "out.npz"
    arguments = ["embed", str(tmp_path), "--model", str(pretrained_folder)]
    assert main([*arguments, "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert f"Embedded 1 files: {output}" in printed.out
    assert "skipped: " in printed.err and "b.wav" in printed.err
    with monkeypatch.context() as torchrun:  # it would end the others
        torchrun.setenv("TORCHELASTIC_RUN_ID", "none")
        assert main([*arguments, "--output", str(output)]) == 0
    assert "b.wav" in capsys.readouterr().err
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
            EMBED,
            "nowhere is neither a file",
        ),
        ([*EMBED, "--rank", "1"], "--world_size is missing: give --rank and"),
        ([*EMBED, "--world_size", "4"], "--rank is missing: give --rank and"),
        ([*EMBED, "--rank", "4", "--world_size", "4"], "count from 0 to"),
        ([*EMBED, "--rank", "-1", "--world_size", "4"], "count from 0 to"),
        ([*EMBED, "--rank", "0", "--world_size", "0"], "count from 0 to"),
        (
            [*EMBED, "--rank", "0", "--world_size", "4"],
            "b.npz cannot be written by 4 processes: choose a .parquet",
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["embed", "MODEL", "--model=MODEL", "--output=a.npz"], "to resume"),
        (["convert", "a.ckpt", "folder"], "nothing was written"),
        (["info", "MODEL"], "nothing was written"),
        (["export", "MODEL", "--output=a.onnx"], "nothing was written"),
    ],
)
def test_a_signal_ends_a_command_with_one_line(
    pretrained_folder, tmp_path, monkeypatch, capsys, number, arguments, hint
):
    def stop(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.chdir(tmp_path)
    place = {
        "embed": (WavJEPAEncoder, "encode"),
        "convert": (official, "load_official"),
        "info": (pretrained, "read_weights"),
        "export": (export, "_write_onnx"),
    }[arguments[0]]
    monkeypatch.setattr(*place, stop)
    model = str(pretrained_folder)
    code = main([argument.replace("MODEL", model) for argument in arguments])
    for deaf in END_SIGNALS:  # since the process ends, but not this one
        signal.signal(deaf, signal.SIG_DFL)
    assert code == 128 + number
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Interrupted: ") and hint in last
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    if arguments[0] == "embed":
        assert left == ["made_with.json"]  # of the run that can be resumed
        assert os.listdir(tmp_path) == ["a.npz.unfinished"]
    else:
        assert left == []


def test_a_full_disk_is_told_with_what_to_do(
    pretrained_folder, tmp_path, monkeypatch, capsys
):
    def fill(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    arguments = [
        "embed",
        str(pretrained_folder),
        f"--model={pretrained_folder}",
    ]
    arguments.append(f"--output={tmp_path / 'out.npz'}")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fill)
        assert main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device: make room. Start the same" in last
    assert os.listdir(tmp_path) == ["out.npz.unfinished"]
    assert main(arguments) == 0
    assert os.listdir(tmp_path) == ["out.npz"]


def test_embed_says_when_nothing_is_to_do(pretrained_folder, tmp_path, capsys):
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    arguments = ["embed", str(tmp_path), "--model", str(pretrained_folder)]
    arguments += ["--output", str(tmp_path / "out.parquet")]
    for words in ("Embedded 1 files", "these 1 files already: nothing to do"):
        assert main(arguments) == 0
        printed = capsys.readouterr()
        assert words in printed.out
        assert "warning: silent.wav is digital silence" in printed.err


def test_embed_takes_its_part_from_the_launcher(
    pretrained_folder, tmp_path, capsys, monkeypatch
):
    soundfile.write(tmp_path / "a.wav", np.ones(16000), 16000)
    arguments = ["embed", str(tmp_path), "--model", str(pretrained_folder)]
    arguments += ["--output", str(tmp_path / "out.parquet")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    counts = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        counts += [printed.split(" files: ")[0]]
        assert f"out.parquet (rank {rank} of 2)" in printed
    assert sorted(counts) == ["Embedded 0", "Embedded 1"]


@pytest.mark.parametrize(
    ("device", "used"), [("cuda", "cuda:3"), ("cuda:1", "cuda:1")]
)
def test_torchrun_gives_each_process_a_gpu(
    pretrained_folder, tmp_path, capsys, monkeypatch, device, used
):
    monkeypatch.setenv("LOCAL_RANK", "3")
    asked = []
    monkeypatch.setattr(
        files, "find_device", lambda x: asked.append(x) or "cpu"
    )
    output = str(tmp_path / "out.npz")
    arguments = ["embed", str(pretrained_folder), "--output", output]
    main([*arguments, "--model", str(pretrained_folder), "--device", device])
    assert asked == [used]


def test_convert_replaces_nothing_unasked(tmp_path, capsys):
    sources = []
    for channels in (1, 2):
        model, settings = make_model(channels)
        weights = official_weights(model, settings)
        path = tmp_path / f"{channels}.ckpt"
        sources.append(str(write_checkpoint(path, weights)))
    far, folder = tmp_path / "far", tmp_path / "folder"
    far.mkdir()
    assert main(["convert", sources[0], str(far / "folder")]) == 0
    folder.symlink_to(far / "folder")
    assert main(["convert", sources[1], str(folder)]) == 2
    assert "folder exists: choose another name" in capsys.readouterr().err
    assert load_pretrained(folder).compute_features.channels == 1
    assert main(["convert", sources[1], str(folder), "--overwrite"]) == 0
    assert load_pretrained(far / "folder").compute_features.channels == 2
    assert folder.is_symlink()
    assert len(list(far.iterdir())) == 1 and len(list(tmp_path.iterdir())) == 4
    # nor what is not of a pretrained folder, even then
    (folder / "thesis.txt").touch()
    assert main(["convert", sources[1], str(folder), "--overwrite"]) == 2

    back = tmp_path / "back.ckpt"
    back.write_text("mine")
    (folder / "thesis.txt").unlink()
    assert main(["convert", "--reverse", str(folder), str(back)]) == 2
    assert back.read_text() == "mine"
    arguments = ["convert", "--reverse", str(folder), str(tmp_path / "b.xyz")]
    capsys.readouterr()
    assert main(arguments) == 2
    assert "b.xyz must end in .ckpt" in capsys.readouterr().err


def test_export_replaces_nothing_unasked(pretrained_folder, tmp_path):
    (tmp_path / "a.pt2").write_text("mine")
    arguments = ["export", str(pretrained_folder), "--output"]
    assert main([*arguments, str(tmp_path / "a.pt2")]) == 2
    assert (tmp_path / "a.pt2").read_text() == "mine"
