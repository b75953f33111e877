"""Banks from elsewhere: every layout, rates, and what cannot be used."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from brir_import import import_bank
from other_processes import hold_elsewhere

from speechbrain_wavjepa.augment import BRIRBank


def make_responses(seed, positions=2, taps=640):
    """Make smooth responses, so that resampling loses nothing."""
    random = np.random.default_rng(seed)
    spectrum = random.standard_normal((1 + positions, 2, taps // 8))
    responses = np.fft.irfft(spectrum, taps) * np.hanning(taps)
    return responses.astype(np.float32)


def add(tar, name, data):
    """Add a member to a tar file."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


def encode(array):
    """Encode an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_tar_shards_without_metadata(tmp_path):
    """The paper's shards: one array a scene, silent rows behind the noises."""
    source = tmp_path / "from"
    source.mkdir()
    for shard in range(4):
        with tarfile.open(source / f"{shard}.tar", "w") as tar:
            padded = np.zeros((6, 2, 700), dtype=np.float32)
            padded[:3, :, :640] = make_responses(shard)
            add(tar, "scene.npy", encode(padded))
    left_out = import_bank(
        source, tmp_path / "to", 32000, bank_rate=32000, test_fraction=0.25
    )
    assert left_out == {}
    bank = BRIRBank(tmp_path / "to", 32000)
    assert len(bank) == 3
    assert len(BRIRBank(tmp_path / "to", 32000, "test")) == 1
    expected = make_responses(0)
    last = bank[0].responses.shape[2]
    assert last <= 640  # the silent end is gone
    np.testing.assert_array_equal(bank[0].responses, expected[:, :, :last])


def test_resampling_keeps_what_a_response_does_to_a_sound(tmp_path):
    (tmp_path / "from").mkdir()
    np.save(tmp_path / "from" / "a.npy", make_responses(1))
    import_bank(tmp_path / "from", tmp_path / "to", 16000, bank_rate=32000)
    responses = BRIRBank(tmp_path / "to")[0].responses.numpy()
    assert responses.shape[2] <= 321
    before = np.abs(np.fft.rfft(make_responses(1), 6400))[:, :, :500]
    after = np.abs(np.fft.rfft(responses, 3200))[:, :, :500]
    np.testing.assert_allclose(after, before, atol=0.01 * before.max())


def test_the_papers_json_files(tmp_path):
    arrays, lists = tmp_path / "arrays", tmp_path / "lists"
    arrays.mkdir()
    lists.mkdir()
    for house in range(2):
        regions = []
        for number in range(3):
            responses = make_responses(10 * house + number)
            places = []
            for row, response in enumerate(responses):
                name = f"{house}_{number}_{row}.npy"
                np.save(arrays / name, response)
                places.append(
                    {
                        "rir": {"binaural_rir_path": f"/elsewhere/{name}"},
                        "azimuth": 10.0 * row,
                        "elevation": 0.0,
                    }
                )
            scene = {"source": places[0], "noise": places[1:]}
            regions.append({"region": {"scene": scene}})
        text = json.dumps({"sampled_regions": regions})
        (lists / f"house-{house}.json").write_text(text)
    left_out = import_bank(
        lists,
        tmp_path / "to",
        32000,
        bank_rate=32000,
        array_folder=arrays,
        test_fraction=0.5,
    )
    assert left_out == {}
    train, test = (
        BRIRBank(tmp_path / "to", 32000, split) for split in ("train", "test")
    )
    assert len(train) == len(test) == 3
    assert train[0].metadata["room"] == "house-0"
    assert test[0].metadata["room"] == "house-1"
    assert train[0].metadata["noise"][1] == {"azimuth": 20.0, "elevation": 0.0}


def test_what_cannot_be_used_is_left_out_and_named(tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    good = make_responses(0)
    not_finite, silent = good.copy(), good.copy()
    not_finite[0, 0, 3] = np.nan
    silent[1:] = 0
    np.save(source / "a_good.npy", good)
    np.save(source / "b_not_finite.npy", not_finite)
    np.save(source / "c_silent.npy", silent)
    np.save(source / "d_four_ears.npy", np.ones((3, 4, 9)))
    (source / "e_broken.npy").write_bytes(b"not an array")
    left_out = import_bank(source, tmp_path / "to", bank_rate=16000)
    assert set(left_out) == {
        "b_not_finite.npy",
        "c_silent.npy",
        "d_four_ears.npy",
        "e_broken.npy",
    }
    assert "not finite" in left_out["b_not_finite.npy"]
    assert "noises are silent" in left_out["c_silent.npy"]
    assert "[3, 4, 9]" in left_out["d_four_ears.npy"]
    assert len(BRIRBank(tmp_path / "to")) == 1
    # the same command again tells the same, although the shard is kept
    again = import_bank(source, tmp_path / "to", bank_rate=16000)
    assert set(again) == set(left_out)


def test_mixed_rates_become_one(tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    for rate in (16000, 32000):
        np.save(source / f"{rate}.npy", make_responses(0, taps=rate // 50))
        about = json.dumps({"sample_rate": rate})
        (source / f"{rate}.json").write_text(about)
    import_bank(source, tmp_path / "to", 16000)
    bank = BRIRBank(tmp_path / "to")
    lengths = [scene.responses.shape[2] for scene in (bank[0], bank[1])]
    assert max(lengths) <= 321 and min(lengths) > 300


def test_an_unknown_rate_asks_for_it(tmp_path):
    (tmp_path / "from").mkdir()
    np.save(tmp_path / "from" / "a.npy", make_responses(0))
    with pytest.raises(ValueError, match="--bank_rate"):
        import_bank(tmp_path / "from", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_an_empty_folder_is_no_bank(tmp_path):
    with pytest.raises(ValueError, match="holds no bank"):
        import_bank(tmp_path, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def write_tars(source, shards):
    """Write tars of scenes: their names, and each scene's name and json."""
    for path, scenes in shards.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(source / path, "w") as tar:
            for number, (name, about) in enumerate(scenes.items()):
                add(tar, f"{name}.npy", encode(make_responses(number)))
                add(tar, f"{name}.json", json.dumps(about).encode())


def rooms_of(folder, split):
    """Name the rooms of a part, and where each scene comes from."""
    bank = BRIRBank(folder, split=split)
    abouts = [bank[index].metadata for index in range(len(bank))]
    return {about["room"] for about in abouts}, [a["origin"] for a in abouts]


@pytest.mark.parametrize("layout", ["tar", "arrays"])
def test_scenes_of_one_room_stay_together(layout, tmp_path):
    """Twelve files of four rooms: the room counts, not the file."""
    source = tmp_path / "from"
    source.mkdir()
    rooms = {
        f"{n:02d}": {"room": n % 4, "sample_rate": 16000} for n in range(12)
    }
    if layout == "tar":
        write_tars(source, {f"{n}.tar": {n: a} for n, a in rooms.items()})
    else:
        for name, about in rooms.items():
            np.save(source / f"{name}.npy", make_responses(0))
            (source / f"{name}.json").write_text(json.dumps(about))
    import_bank(source, tmp_path / "to", test_fraction=0.25)
    train, origins = rooms_of(tmp_path / "to", "train")
    test, test_origins = rooms_of(tmp_path / "to", "test")
    assert (train, test) == ({"0", "1", "2"}, {"3"})
    assert (len(origins), len(test_origins)) == (9, 3)


def test_a_room_in_both_parts_of_a_bank_is_refused(tmp_path):
    about = {"room": "kitchen", "sample_rate": 16000}
    write_tars(
        tmp_path / "from",
        {"train/0.tar": {"0": about}, "test/0.tar": {"0": about}},
    )
    with pytest.raises(ValueError, match="'kitchen' has scenes in test/ and"):
        import_bank(tmp_path / "from", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    names = {name: {"sample_rate": 16000} for name in ("a/0", "b/0", "0")}
    write_tars(tmp_path / "from", {"x/0.tar": names, "y/0.tar": names})
    import_bank(tmp_path / "from", tmp_path / "to", test_fraction=0)
    _, origins = rooms_of(tmp_path / "to", "train")
    assert len(set(origins)) == 6
    assert {"x/0.tar::a/0.npy", "y/0.tar::0.npy"} < set(origins)


@pytest.mark.parametrize("change", ["content", "metadata", "name"])
def test_another_bank_under_the_same_names_is_refused(change, tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    for name in "ab":
        np.save(source / f"{name}.npy", make_responses(0))
        (source / f"{name}.json").write_text('{"sample_rate": 16000}')
    import_bank(source, tmp_path / "to")
    source.rename(tmp_path / "moved")
    import_bank(tmp_path / "moved", tmp_path / "to")  # it is the same
    kept = BRIRBank(tmp_path / "to")[0].responses
    if change == "content":
        np.save(tmp_path / "moved" / "b.npy", make_responses(1))
    elif change == "metadata":
        (tmp_path / "moved" / "b.json").write_text('{"sample_rate": 32000}')
    else:
        (tmp_path / "moved" / "b.npy").rename(tmp_path / "moved" / "c.npy")
    with pytest.raises(ValueError, match="was made with content=.*, not"):
        import_bank(tmp_path / "moved", tmp_path / "to", bank_rate=None)
    assert np.array_equal(BRIRBank(tmp_path / "to")[0].responses, kept)


@pytest.mark.parametrize(
    "about, message",
    [
        ({"sample_rate": 1}, "rate is 1,"),
        ({"sample_rate": 1e12}, "rate is 1000000000000.0"),
        ({"sample_rate": float("nan")}, "rate is nan"),
        ({"sample_rate": "fast"}, "rate is 'fast'"),
        ({"sample_rate": True}, "rate is True"),
        ({"receivers": 2}, "receivers are 2"),
        ({"receivers": [["left"], "right"]}, "no list of names"),
        ({"receivers": ["left", "left"]}, "no list of names"),
        (["a list"], "holds no object"),
    ],
    ids=str,
)
def test_metadata_that_cannot_be_right_leave_a_scene_out(
    about, message, tmp_path
):
    source = tmp_path / "from"
    source.mkdir()
    for name in "ab":
        np.save(source / f"{name}.npy", make_responses(0))
    if isinstance(about, dict):
        about = {"sample_rate": 16000, **about}
    (source / "b.json").write_text(json.dumps(about))
    left_out = import_bank(source, tmp_path / "to", 16000, 16000)
    assert set(left_out) == {"b.npy"} and message in left_out["b.npy"]


def test_hostile_files_are_left_out_and_named(tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    names = ["-rf", "{a}[b]*?", "new\nline", "good", "é"]
    for name in names:
        np.save(source / f"{name}.npy", make_responses(0))
    os.mkfifo(source / "pipe.npy")
    np.save(source / "pipe_json.npy", make_responses(0))
    os.mkfifo(source / "pipe_json.json.fifo")
    (source / "pipe_json.json").symlink_to("/dev/zero")
    (source / "link.npy").symlink_to("/etc/passwd")
    (source / "gone.npy").symlink_to("nowhere")
    np.save(source / "deep.npy", make_responses(0))
    (source / "deep.json").write_text('{"a":' * 100000)
    np.save(source / "long.npy", np.ones((2, 2, 61 * 1000)))
    (source / "long.json").write_text('{"sample_rate": 1000}')
    with pytest.raises(ValueError, match="pipe_json.json is no regular"):
        import_bank(source, tmp_path / "to", bank_rate=16000)
    assert not (tmp_path / "to").exists()
    (source / "pipe_json.json").unlink()
    left_out = import_bank(source, tmp_path / "to", bank_rate=16000)
    assert set(left_out) == {
        f"{name}.npy" for name in ("pipe", "link", "gone", "deep", "long")
    }
    bank = BRIRBank(tmp_path / "to")
    origins = {bank[index].metadata["origin"] for index in range(len(bank))}
    assert f"{names[2]}.npy" in origins
    assert {path.name for path in (tmp_path / "to").rglob("*")} == {
        "made_with.json",
        "train",
        "test",
        "scenes-000000.tar",
    }


@pytest.mark.parametrize(
    "region, message",
    [
        ({}, "not as in the paper"),
        ([], "not as in the paper"),
        ({"region": {"scene": {"source": "s", "noise": "n"}}}, "paper"),
        ("../a.npy", "is missing"),  # only the name of a path counts
        ("..", "cannot be a name in"),
        ("a\nb.npy", "cannot be a name in"),
        ("/elsewhere/mono.npy", "the shape [640]"),
        ("/elsewhere/nowhere.npy", "is missing"),
    ],
    ids=str,
)
def test_regions_that_cannot_be_used_are_left_out(region, message, tmp_path):
    source = tmp_path / "from"
    source.mkdir()
    np.save(source / "good.npy", make_responses(0)[0])
    np.save(source / "mono.npy", make_responses(0)[0, 0])
    np.save(tmp_path / "a.npy", make_responses(0)[0])

    def place(path):
        return {"rir": {"binaural_rir_path": path}}

    def make_region(path):
        scene = {"source": place("good.npy"), "noise": [place(path)]}
        return {"region": {"scene": scene}}

    if isinstance(region, str):
        region = make_region(region)
    regions = {"sampled_regions": [make_region("good.npy"), region]}
    (source / "house.json").write_text(json.dumps(regions))
    left_out = import_bank(source, tmp_path / "to", bank_rate=16000)
    assert set(left_out) == {"house.json::1"}
    assert message in left_out["house.json::1"]


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"sampled_regions": 3}', "are no list"),
        ('{"a": {"sampled_regions": []}}', "are no list"),
        ('{"sampled_regions": [', "cannot be read"),
        ('{"sampled_regions": []}', "None of the 0 scenes"),
    ],
)
def test_a_list_of_regions_that_is_none_is_named(text, message, tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "house.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        import_bank(tmp_path / "from", tmp_path / "to", bank_rate=16000)
    assert not (tmp_path / "to").exists()


def test_a_part_of_a_bank_is_none(tmp_path, monkeypatch):
    """Its rooms for testing would become rooms to train on."""
    scenes = {str(n): {"room": n, "sample_rate": 16000} for n in range(4)}
    write_tars(tmp_path / "from", {"0.tar": scenes})
    bank = tmp_path / "bank"
    import_bank(tmp_path / "from", bank, test_fraction=0.5)
    monkeypatch.chdir(bank / "test")
    shard = bank / "train" / "scenes-000000.tar"
    for part in (bank / "train", bank / "test", ".", shard):
        with pytest.raises(ValueError, match=f"give the bank, {bank}"):
            import_bank(part, tmp_path / "to")
    assert not (tmp_path / "to").exists()
    import_bank(bank, tmp_path / "to")
    for split in ("train", "test"):
        assert rooms_of(tmp_path / "to", split)[0] == rooms_of(bank, split)[0]


def test_two_imports_at_once_are_refused(tmp_path):
    (tmp_path / "from").mkdir()
    np.save(tmp_path / "from" / "a.npy", make_responses(0))
    with hold_elsewhere(tmp_path / "to"):
        with pytest.raises(ValueError, match="in use by process"):
            import_bank(tmp_path / "from", tmp_path / "to", bank_rate=16000)


def test_an_output_within_the_bank_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", make_responses(0))
    with pytest.raises(ValueError, match="the bank itself"):
        import_bank(tmp_path, tmp_path / "to", bank_rate=16000)
    assert not (tmp_path / "to").exists()
