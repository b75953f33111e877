"""Tasks in rooms."""

import json
import shutil

import pytest
import soundfile
import torch

from speechbrain_wavjepa.augment import SceneSampler
from speechbrain_wavjepa.augment.brir import RoomScene
from speechbrain_wavjepa.evaluation import HearTask
from speechbrain_wavjepa.evaluation.naturalistic import write_naturalistic


def make_sampler(gains=(1.0, 0.5, 0.7), delay=100):
    """A room without reverberation, where each receiver has its gain."""
    responses = torch.zeros(2, 3, 200)
    responses[:, :, delay] = torch.tensor(gains)
    bank = [RoomScene("0", responses, {"t60": 0.3})]
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    return SceneSampler(bank, [noise], snr_db=(60.0, 60.0))


def test_both_versions_hear_the_room(task_folder, tmp_path):
    task = HearTask(task_folder)
    folders = write_naturalistic(task, tmp_path, make_sampler())
    assert [folder.parent.name for folder in folders] == ["binaural", "omni"]
    both, omni = map(HearTask, folders)
    assert both.clips == omni.clips == task.clips
    assert both.metadata == task.metadata
    for name in task.clips["test"]:
        dry = task.read_clip("test", name)[:1500, 0]
        ears = both.read_clip("test", name)[100:]
        alone = omni.read_clip("test", name)[100:, 0]
        for heard, gain in ((ears[:, 0], 1.0), (ears[:, 1], 0.5), (alone, 0.7)):
            similarity = torch.cosine_similarity(heard, dry, dim=0)
            assert similarity > 0.99
            ratio = heard.std() / ears[:, 0].std()
            assert ratio.item() == pytest.approx(gain, rel=0.02)


def test_a_scene_depends_on_the_clip_s_name_alone(task_folder, tmp_path):
    task = HearTask(task_folder)
    write_naturalistic(task, tmp_path / "a", make_sampler())
    task.clips = {split: task.clips[split] for split in ("test", "train")}
    write_naturalistic(task, tmp_path / "b", make_sampler())
    write_naturalistic(task, tmp_path / "c", make_sampler(), seed=1)
    inside = f"binaural/{task_folder.name}/16000/test/3.wav"
    first, second, third = (
        (tmp_path / name / inside).read_bytes() for name in "abc"
    )
    assert first == second != third


def test_a_loud_room_does_not_clip(task_folder, tmp_path):
    task = HearTask(task_folder)
    folder, _ = write_naturalistic(
        task, tmp_path, make_sampler((30.0, 15.0, 1.0))
    )
    clip, _ = soundfile.read(folder / "16000" / "test" / "0.wav")
    assert 0.99 < abs(clip).max() <= 1
    left, right = clip.std(axis=0)
    assert left / right == pytest.approx(2, rel=0.01)


def test_what_was_made_of_the_same_is_kept_and_of_others_refused(
    task_folder, tmp_path
):
    task = HearTask(task_folder)
    rooms = {"rooms": "0a1b"}
    folders = write_naturalistic(
        task, tmp_path, make_sampler(), drawn_from=rooms
    )
    times = [(f / "test.json").stat().st_mtime_ns for f in folders]
    shutil.rmtree(folders[1])
    write_naturalistic(task, tmp_path, make_sampler(), drawn_from=rooms)
    assert (folders[0] / "test.json").stat().st_mtime_ns == times[0]
    assert HearTask(folders[1]).check_leaks() is None
    for options, message in (
        ({"drawn_from": {"rooms": "2c3d"}}, "rooms=0a1b, not rooms=2c3d"),
        ({"drawn_from": rooms, "seed": 1}, "seed=0, not seed=1"),
    ):
        with pytest.raises(ValueError, match=message):
            write_naturalistic(task, tmp_path, make_sampler(), **options)


def test_what_others_wrote_there_is_kept(task_folder, tmp_path):
    place = tmp_path / "omni" / task_folder.name
    place.mkdir(parents=True)
    (place / "thesis.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="something else.*thesis.txt"):
        write_naturalistic(HearTask(task_folder), tmp_path, make_sampler())
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [
        place / "thesis.txt"
    ]
    assert {*before} <= {*tmp_path.rglob("*")}


@pytest.mark.parametrize("climbs", ["../../../../precious.wav", "absolute"])
def test_a_task_whose_clip_climbs_overwrites_nothing(
    task_folder, tmp_path, climbs
):
    """Seen: the clip was written over a file of the user."""
    precious = tmp_path / "precious.wav"
    folder = shutil.copytree(task_folder, tmp_path / "tasks" / task_folder.name)
    shutil.copy(folder / "16000" / "test" / "0.wav", precious)
    before = precious.read_bytes()
    name = str(precious) if climbs == "absolute" else climbs
    (folder / "test.json").write_text(json.dumps({name: ["low"]}))
    with pytest.raises(ValueError, match="precious.wav' cannot be a name in"):
        task = HearTask(folder)
        write_naturalistic(task, tmp_path / "out", make_sampler())
    assert precious.read_bytes() == before
    assert not (tmp_path / "out").exists()
