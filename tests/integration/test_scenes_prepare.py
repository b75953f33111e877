"""scenes_prepare.py as a user runs it."""

import subprocess
import sys

from tiny_run import ENVIRONMENT, RECIPE

from speechbrain_wavjepa.rooms import BRIRBank


def prepare(*arguments):
    """Run the script; return its exit code and output."""
    result = subprocess.run(
        [sys.executable, "scenes_prepare.py", *map(str, arguments)],
        cwd=RECIPE,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout


def test_make_a_bank_then_bring_it_to_another_rate(tmp_path):
    made, moved = tmp_path / "made", tmp_path / "moved"
    options = ["--num_rooms", 2, "--scenes_per_room", 2, "--num_workers", 1]
    code, printed = prepare("--output", made, *options)
    assert code == 0
    assert "2 scenes for training and 2 for testing" in printed
    code, printed = prepare(
        "--from_bank", made, "--output", moved, "--sample_rate", 8000
    )
    assert code == 0, printed
    assert "2 scenes for training and 2 for testing" in printed
    rooms = [
        BRIRBank(moved, 8000, split)[0].about["room"]
        for split in ("train", "test")
    ]
    assert rooms == ["room-0000", "room-0001"]
    scene = BRIRBank(moved, 8000)[0]
    assert scene.about["sample_rate"] == 8000
    assert scene.about["receivers"] == ["left", "right", "omni"]
    # the same settings again: nothing to do
    code, printed = prepare("--output", made, *options)
    assert code == 0


def test_mistakes_are_one_line(tmp_path):
    for options, message in (
        (["--num_rooms", 1], "num_rooms=1"),
        (["--hrtf", "nowhere.sofa"], "nowhere.sofa is not there"),
        (["--from_bank", tmp_path / "nowhere"], "holds no bank"),
    ):
        code, printed = prepare("--output", tmp_path / "bank", *options)
        assert code == 1
        assert printed.startswith("error: ") and message in printed
        assert printed.count("\n") == 1
        assert not (tmp_path / "bank").exists()
