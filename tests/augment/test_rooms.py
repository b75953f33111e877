"""Banks of room responses and folders of noises, good and bad."""

import os
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_wavjepa.augment.brir import BRIRBank, encode_responses
from speechbrain_wavjepa.augment.noises import NoiseFolder
from speechbrain_wavjepa.augment.scenes import SceneSampler
from speechbrain_wavjepa.dataio.clips import decode_clip
from speechbrain_wavjepa.dataio.writer import write_shard

ABOUT = {"sample_rate": 16000, "receivers": ["left", "right"]}


def write_bank(folder, scenes, split="train"):
    """Write one shard of (responses, about) pairs."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    write_shard(
        folder / split / "scenes-000000.tar",
        [
            (f"{index:06d}", encode_responses(responses), about)
            for index, (responses, about) in enumerate(scenes)
        ],
        ".npy",
    )


def test_scenes_come_back_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    scenes = [
        (random.standard_normal((2 + index, 2, 300)), {**ABOUT, "t60": index})
        for index in range(3)
    ]
    write_bank(tmp_path, scenes)
    write_bank(tmp_path, scenes[:1], "test")
    bank = BRIRBank(tmp_path)
    assert len(bank) == 3 and len(BRIRBank(tmp_path, split="test")) == 1
    for index in (2, 0, 1):  # in any order
        expected, about = scenes[index]
        scene = bank[index]
        assert scene.metadata == about
        assert np.array_equal(scene.responses, expected.astype(np.float32))


def test_receivers_are_picked_by_name(tmp_path):
    responses = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    about = {**ABOUT, "receivers": ["left", "right", "omni"]}
    write_bank(tmp_path, [(responses, about)])
    omni = BRIRBank(tmp_path, receivers=["omni"])[0].responses
    assert np.array_equal(omni, responses[:, 2:])
    ears = BRIRBank(tmp_path)[0].responses
    assert np.array_equal(ears, responses[:, :2])


def test_a_bank_at_another_rate_is_refused_at_once(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), {"sample_rate": 32000})])
    way_out = f"--from_bank {tmp_path} --output"  # both of its parts
    with pytest.raises(ValueError, match=f"32000 Hz.*needs 16000.*{way_out}"):
        BRIRBank(tmp_path)


def test_missing_receivers_are_refused_at_once(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), ABOUT)])
    with pytest.raises(ValueError, match="omni"):
        BRIRBank(tmp_path, receivers=["omni"])


@pytest.mark.parametrize(
    "responses, message",
    [
        (np.full((2, 2, 9), np.nan), "not finite"),
        (np.ones((2, 4, 9)), r"shape \[2, 4, 9\]"),
        (np.ones((2, 9)), r"shape \[2, 9\]"),
        (np.ones((1, 2, 9)), "no noise position"),
        (np.full((2, 2, 9), 1e30), "not finite"),
        (np.stack([np.zeros((2, 9)), np.ones((2, 9))]), "source .* silent"),
    ],
)
def test_a_bad_scene_is_named_when_it_is_read(tmp_path, responses, message):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), ABOUT), (responses, ABOUT)])
    bank = BRIRBank(tmp_path)
    with pytest.raises(ValueError, match=f"000001.*{message}"):
        bank[1]


def test_a_scene_at_another_rate_in_a_bank_is_named(tmp_path):
    other = {**ABOUT, "sample_rate": 8000}
    write_bank(
        tmp_path, [(np.ones((2, 2, 9)), ABOUT), (np.ones((2, 2, 9)), other)]
    )
    with pytest.raises(ValueError, match="000001.*8000 Hz"):
        BRIRBank(tmp_path)[1]


def test_a_missing_bank_names_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="wavjepa_nat_mini.yaml"):
        BRIRBank(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no tar shards"):
        BRIRBank(tmp_path)


def test_rooms_of_training_are_never_those_of_a_test(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9)), ABOUT)])
    flat = tmp_path / "train"
    assert len(BRIRBank(flat)) == 1
    for folder in (flat, tmp_path):
        with pytest.raises(ValueError, match="has no part test/"):
            BRIRBank(folder, split="test")


def test_a_cut_shard_is_refused(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9000)), ABOUT)])
    path = tmp_path / "train" / "scenes-000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match="scenes-000000"):
        BRIRBank(tmp_path)[0]


def test_noises_are_brought_to_the_rate(tmp_path):
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 440 * time)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "tone.wav"
    soundfile.write(path, np.stack([tone, 0 * tone], axis=1), 8000)
    noise = NoiseFolder(tmp_path, 16000)[0]
    assert noise.shape == (16000,)
    spectrum = torch.fft.rfft(noise).abs()
    assert int(spectrum.argmax()) == 440


def test_silent_and_broken_noises_are_named(tmp_path):
    soundfile.write(tmp_path / "a_silent.wav", np.zeros(800), 16000)
    (tmp_path / "b_broken.wav").write_bytes(b"RIFF, not really")
    noises = NoiseFolder(tmp_path)
    with pytest.raises(ValueError, match="a_silent.wav is silent"):
        noises[0]
    with pytest.raises(ValueError, match="b_broken.wav cannot be used"):
        noises[1]


def test_a_missing_noise_folder_names_the_way_out(tmp_path):
    with pytest.raises(ValueError, match="noise_folder"):
        NoiseFolder(tmp_path / "nowhere")


def test_a_long_noise_is_heard_in_all_parts(tmp_path):
    """Three minutes, each of another frequency."""
    rate = 1000
    time = np.arange(60 * rate) / rate
    minutes = [np.sin(2 * np.pi * f * time) for f in (50, 150, 250)]
    for suffix in ("wav", "flac", "ogg"):
        path = tmp_path / f"long.{suffix}"
        soundfile.write(path, np.concatenate(minutes), rate)
        noises = NoiseFolder(tmp_path, rate)
        heard = set()
        for index in (0, len(noises) // 2, len(noises) - 1):
            noise = noises[index]
            assert noise.shape == (60000,)
            heard.add(int(torch.fft.rfft(noise).abs().argmax()) // 60)
        assert heard == {50, 150, 250}
        path.unlink()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_noise_is_a_clip_of_the_stream(suffix, tmp_path):
    """Rate, channel and level are those of every other clip."""
    random = np.random.default_rng(0)
    path = tmp_path / f"0.{suffix}"
    soundfile.write(path, 0.1 * random.standard_normal((30000, 2)), 44100)
    clip = decode_clip(path.read_bytes(), 16000, 60 * 16000)
    assert torch.equal(NoiseFolder(tmp_path)[0], clip[:, 0])


def test_odd_files_of_a_noise_folder_neither_block_nor_vanish(tmp_path):
    names = ["-rf.wav", "{0..9}*[a].wav", "new\nline.wav"]
    for name in names:
        soundfile.write(tmp_path / name, np.ones(800) / 9, 16000)
    bad_name = os.fsencode(tmp_path) + b"/\xff.wav"
    with open(bad_name, "wb") as file:
        file.write((tmp_path / names[0]).read_bytes())
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dangling.wav").symlink_to("nowhere")
    (tmp_path / "endless.wav").symlink_to("/dev/zero")
    noises = NoiseFolder(tmp_path)
    assert len(noises.files) == len(names) + 1
    assert all(len(noises[number]) == 800 for number in range(4))


def test_a_noise_of_many_gigabytes_is_read_in_part(tmp_path):
    path = tmp_path / "huge.wav"
    soundfile.write(path, np.ones((800, 2)) / 9, 16000, subtype="FLOAT")
    size = 3 * 2**30
    with open(path, "r+b") as file:
        data = file.read()
        place = data.index(b"data")
        file.seek(4)
        file.write((size - 8).to_bytes(4, "little"))
        file.seek(place + 4)
        file.write((size - place - 8).to_bytes(4, "little"))
        file.truncate(size)  # a hole: takes no room on the disk
    tracemalloc.start()
    noises = NoiseFolder(tmp_path)
    assert noises[0].shape == (60 * 16000,)
    with pytest.raises(ValueError, match="silent"):
        noises[len(noises) - 1]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**28


def test_what_is_removed_during_a_run_is_drawn_again_and_named(tmp_path):
    write_bank(tmp_path / "bank", [(np.ones((2, 2, 9)), ABOUT)] * 3)
    (tmp_path / "noises").mkdir()
    for number in range(2):
        path = tmp_path / "noises" / f"{number}.wav"
        soundfile.write(path, np.ones(800) / 9, 16000)
    sampler = SceneSampler(
        BRIRBank(tmp_path / "bank"), NoiseFolder(tmp_path / "noises")
    )
    generator = torch.Generator().manual_seed(0)
    assert sampler(8, 1000, generator).num_bad == 0
    path.unlink()
    parts = sampler(8, 1000, generator)
    assert len(parts.metadata) == 8 and parts.num_bad > 0
    shard = tmp_path / "bank" / "train" / "scenes-000000.tar"
    shard.unlink()
    with pytest.raises(ValueError, match=f"no scene could be.*{shard}"):
        sampler(8, 1000, generator)


def test_a_bank_that_was_cut_meanwhile_is_named(tmp_path):
    write_bank(tmp_path, [(np.ones((2, 2, 9000)), ABOUT)] * 2)
    bank = BRIRBank(tmp_path)
    path = tmp_path / "train" / "scenes-000000.tar"
    path.write_bytes(path.read_bytes()[:160000])
    with pytest.raises(ValueError, match="000001 cannot be used.*ends within"):
        bank[1]
    assert len(bank[0].responses) == 2
