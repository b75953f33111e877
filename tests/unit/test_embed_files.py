"""Embeddings of many files."""

import numpy as np
import pytest
import soundfile
import torch
from pyarrow import parquet

from speechbrain_wavjepa import embed_files as module
from speechbrain_wavjepa.embed_files import embed_files, find_audio
from speechbrain_wavjepa.pretrained import load_pretrained, write_pretrained


@pytest.fixture
def sounds(tmp_path):
    """Three files, one that is none, and a text."""
    folder = tmp_path / "sounds"
    (folder / "deep").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, seconds in (("b.wav", 1), ("deep/a.flac", 3), ("deep/c.ogg", 2)):
        samples = random.standard_normal(16000 * seconds) / 8
        soundfile.write(folder / name, samples, 16000)
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("not sound")
    return folder


def expected(model, path):
    samples, _ = soundfile.read(path, dtype="float32")
    return load_pretrained(model).embed(torch.from_numpy(samples)[None])[0, 0]


NAMES = ["b.wav", "deep/a.flac", "deep/c.ogg"]


def check_report(report, sounds):
    assert report.embedded == 3
    (path,) = report.unreadable
    assert path == str(sounds / "broken.wav")
    assert "broken.wav cannot be decoded" in report.unreadable[path]


def test_npz(sounds, pretrained_folder, tmp_path):
    output = tmp_path / "out.npz"
    check_report(embed_files([sounds], pretrained_folder, output), sounds)
    with np.load(output) as arrays:
        assert arrays["names"].tolist() == NAMES
        for name, row in zip(NAMES, arrays["embeddings"]):
            torch.testing.assert_close(
                torch.from_numpy(row),
                expected(pretrained_folder, sounds / name),
                rtol=0,
                atol=1e-5,
            )
    assert {path.name for path in tmp_path.iterdir()} == {"sounds", "out.npz"}


def test_timestamps(sounds, pretrained_folder, tmp_path):
    output = tmp_path / "out.npz"
    report = embed_files([sounds], pretrained_folder, output, timestamps=True)
    check_report(report, sounds)
    with np.load(output) as arrays:
        assert arrays["num_tokens"].tolist() == [99, 299, 199]
        assert arrays["embeddings"].shape == (597, 16)
        assert arrays["times"][[0, 99, 398]].tolist() == [0.0075] * 3


@pytest.mark.parametrize("timestamps", [False, True])
def test_parquet(sounds, pretrained_folder, tmp_path, timestamps):
    output = tmp_path / "out.parquet"
    embed_files([sounds], pretrained_folder, output, timestamps)
    table = parquet.read_table(output).to_pydict()
    assert table["name"] == NAMES
    rows = [np.array(row).shape for row in table["embeddings"]]
    if timestamps:
        assert rows == [(99, 16), (299, 16), (199, 16)]
        assert [len(times) for times in table["times"]] == [99, 299, 199]
    else:
        assert rows == [(16,)] * 3


def test_a_stopped_run_goes_on(
    sounds, pretrained_folder, tmp_path, monkeypatch
):
    output = tmp_path / "out.npz"
    done = []
    real = module._embed

    def stop_after_one(encoder, path, timestamps):
        if done:
            raise KeyboardInterrupt
        done.append(path.name)
        return real(encoder, path, timestamps)

    monkeypatch.setattr(module, "_embed", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        embed_files([sounds], pretrained_folder, output)
    assert not output.exists()
    again = []

    def note(encoder, path, timestamps):
        again.append(path.name)
        return real(encoder, path, timestamps)

    monkeypatch.setattr(module, "_embed", note)
    assert embed_files([sounds], pretrained_folder, output).embedded == 3
    assert done == ["b.wav"]
    assert again == ["broken.wav", "a.flac", "c.ogg"]


def test_a_folder_is_not_mixed(
    sounds, pretrained_folder, binaural_folder, tmp_path
):
    output = tmp_path / "out"
    check_report(embed_files([sounds], pretrained_folder, output), sounds)
    with np.load(output / "deep" / "a.flac.npz") as arrays:
        assert arrays["embeddings"].shape == (16,)
    with pytest.raises(ValueError, match="made with channels=1, model=.*not"):
        embed_files([sounds], binaural_folder, output)
    with pytest.raises(ValueError, match="timestamps=False, not timestamps"):
        embed_files([sounds], pretrained_folder, output, timestamps=True)
    with pytest.raises(ValueError, match="holds something else"):
        embed_files([sounds], pretrained_folder, sounds)


def test_channels_that_do_not_fit_are_told(binaural_folder, tmp_path):
    path = tmp_path / "three.wav"
    soundfile.write(path, np.zeros((100, 3)), 16000)
    report = embed_files([path], binaural_folder, tmp_path / "out")
    assert report.embedded == 0
    assert "three.wav: A model with 2 channels" in report.unreadable[str(path)]


def test_places(sounds, tmp_path):
    names = [name for name, _ in find_audio([sounds / "deep" / "a.flac"])]
    assert names == ["a.flac"]
    with pytest.raises(ValueError, match="nowhere is neither a file nor"):
        find_audio([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nor a folder with files .flac, .wav"):
        find_audio([tmp_path / "empty"])
    other = tmp_path / "b.wav"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="would have the same name"):
        find_audio([sounds, other])


def test_the_output_has_a_known_form(sounds, pretrained_folder, tmp_path):
    with pytest.raises(ValueError, match="must end in .npz or .parquet"):
        embed_files([sounds], pretrained_folder, tmp_path / "out.csv")


def test_the_hash_follows_the_weights(pretrained_folder, tmp_path):
    encoder = load_pretrained(pretrained_folder)
    model = encoder.embedding_model.model
    write_pretrained(tmp_path / "same", model)
    same = module.hash_model(tmp_path / "same")
    assert same == module.hash_model(pretrained_folder)
    next(model.parameters()).data += 1
    write_pretrained(tmp_path / "other", model)
    assert module.hash_model(tmp_path / "other") != same
