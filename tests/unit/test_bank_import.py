"""Banks from elsewhere: every layout, rates, and what cannot be used."""

import io
import json
import tarfile

import numpy as np
import pytest

from speechbrain_wavjepa.bank_import import import_bank
from speechbrain_wavjepa.rooms import BRIRBank


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
    assert train[0].about["room"] == "house-0"
    assert test[0].about["room"] == "house-1"
    assert train[0].about["noise"][1] == {"azimuth": 20.0, "elevation": 0.0}


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
        "b_not_finite",
        "c_silent",
        "d_four_ears",
        "e_broken",
    }
    assert "not finite" in left_out["b_not_finite"]
    assert "noises are silent" in left_out["c_silent"]
    assert "[3, 4, 9]" in left_out["d_four_ears"]
    assert len(BRIRBank(tmp_path / "to")) == 1


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


def test_an_empty_folder_is_no_bank(tmp_path):
    with pytest.raises(ValueError, match="holds no bank"):
        import_bank(tmp_path, tmp_path / "to")
    assert not (tmp_path / "to").exists()
