"""Folders belong to one run at a time, and to one set of settings."""

import errno
import fcntl
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechbrain_wavjepa.utils.files import (
    LOCK_FILE,
    atomic_file,
    atomic_folder,
    claim,
    fingerprint_files,
    hold,
    is_made,
    path_inside,
)

HOLDER = """
import multiprocessing, sys, time
from speechbrain_wavjepa.utils.files import hold
with hold(sys.argv[1]):
    child = multiprocessing.get_context("fork").Process(
        target=time.sleep, args=[600]
    )
    child.start()
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path / "run", and has a forked child."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as found:
        child = int(found.stdout.readline())
        yield found
        found.kill()
        subprocess.run(["kill", "-9", str(child)], check=False)


def test_a_held_folder_is_refused_with_process_and_host(holder, tmp_path):
    with pytest.raises(ValueError, match=f"process {holder.pid} on .+: wait"):
        with hold(tmp_path / "run"):
            pass
    # and the holder keeps it
    with pytest.raises(ValueError, match="in use"):
        with hold(tmp_path / "run"):
            pass


def test_a_killed_holder_does_not_block_although_its_child_lives(
    holder, tmp_path
):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK_FILE).exists()
    with hold(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_a_disk_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with hold(tmp_path / "run"):
        assert "cannot be locked (No locks available)" in caplog.text


def test_the_error_of_a_disk_that_became_read_only_is_kept(
    tmp_path, monkeypatch
):
    def read_only(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(ValueError, match="the run's own"):
        with hold(tmp_path / "run"):
            monkeypatch.setattr(Path, "unlink", read_only)
            raise ValueError("the run's own")


def test_a_refused_start_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="checked"):
        with hold(tmp_path / "run"):
            raise ValueError("checked before anything was written")
    assert not (tmp_path / "run").exists()


def test_a_claimed_folder_names_every_difference(tmp_path):
    claim(tmp_path / "run", {"lr": 0.1, "sizes": (1, 2), "seed": 3})
    claim(tmp_path / "run", {"seed": 3, "lr": 0.1, "sizes": [1, 2]})
    with pytest.raises(ValueError, match=r"lr=0.1, seed=3, not lr=0.2, seed="):
        claim(tmp_path / "run", {"lr": 0.2, "sizes": (1, 2), "seed": 4})


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "save").mkdir()  # what an interrupted start leaves
    claim(tmp_path, {})
    (tmp_path / "made_with.json").unlink()
    (tmp_path / "save" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="something else.*thesis.txt"):
        claim(tmp_path, {})


def test_an_empty_folder_is_not_made_yet(tmp_path):
    (tmp_path / "empty" / "within").mkdir(parents=True)
    for name in ("nowhere", "empty", "empty/within"):
        assert not is_made(tmp_path / name, {"seed": 1})
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", "within"]
    claim(tmp_path / "made", {"seed": 1})
    assert is_made(tmp_path / "made", {"seed": 1})
    with pytest.raises(ValueError, match="seed=1, not seed=2"):
        is_made(tmp_path / "made", {"seed": 2})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="something else"):
        is_made(tmp_path / "file", {"seed": 1})


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../a.wav",
        "a/../../b.wav",
        "a\\..\\b.wav",
        "C:/a.wav",
        "C:a.wav",
        "a\nb.wav",
        "a\0.wav",
        None,
        3,
    ],
)
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be a name"):
        path_inside(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a.wav", "a/b.wav", "-rf", "{a}[b]*?.wav", "a..b", "été.wav"]
)
def test_an_odd_name_inside_its_folder_is_let_through(tmp_path, name):
    assert path_inside(tmp_path, name) == tmp_path / name


def test_files_are_known_by_name_and_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    first = fingerprint_files(tmp_path, ["a", "b"])
    assert first == fingerprint_files(tmp_path, ["b", "a"])
    time.sleep(0.01)
    (tmp_path / "a").write_text("a")  # touched, not changed
    assert first == fingerprint_files(tmp_path, ["a", "b"])
    (tmp_path / "a").rename(tmp_path / "c")
    assert first != fingerprint_files(tmp_path, ["c", "b"])


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "far" / "folder").mkdir(parents=True)
    (tmp_path / "far" / "file").write_text("old")
    for name in ("folder", "file"):
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
    with atomic_folder(tmp_path / "folder") as aside:
        (aside / "inside").write_text("new")
    with atomic_file(tmp_path / "file") as aside:
        aside.write_text("new")
    assert (tmp_path / "folder").is_symlink()
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "far" / "folder" / "inside").read_text() == "new"
    assert (tmp_path / "far" / "file").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 3
    assert len(list((tmp_path / "far").iterdir())) == 2


def test_a_damaged_note_is_named(tmp_path):
    for text in ("{", "[]", "\0"):
        (tmp_path / "made_with.json").write_text(text)
        with pytest.raises(ValueError, match="made_with.json is damaged"):
            claim(tmp_path, {})


def test_who_lost_a_folder_does_not_free_its_new_holder(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(OSError, match="was removed during the run"):
        with hold(folder) as check:
            check()
            shutil.rmtree(folder)
            folder.mkdir()
            (folder / LOCK_FILE).write_text("another's")
            check()
    assert (folder / LOCK_FILE).read_text() == "another's"
