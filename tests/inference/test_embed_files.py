"""Embeddings of many files."""

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from official_factory import make_model
from pyarrow import dataset, parquet

from speechbrain_wavjepa.inference import files as module
from speechbrain_wavjepa.inference import load_pretrained, write_pretrained
from speechbrain_wavjepa.inference.files import embed_files, find_audio
from speechbrain_wavjepa.utils.files import hash_file


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
    assert "broken.wav cannot be read" in report.unreadable[path]


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


def interrupt(monkeypatch, number):
    """Note what is embedded; interrupt embed_files at that file."""
    calls, real = [], module._embed

    def embed(encoder, path, timestamps):
        calls.append(path.name)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(encoder, path, timestamps)

    monkeypatch.setattr(module, "_embed", embed)
    return calls


def test_an_interrupted_run_resumes(
    sounds, pretrained_folder, tmp_path, monkeypatch
):
    output = tmp_path / "out.npz"
    with monkeypatch.context() as patch:
        interrupt(patch, number=2)
        with pytest.raises(KeyboardInterrupt):
            embed_files([sounds], pretrained_folder, output)
    assert not output.exists()
    calls = interrupt(monkeypatch, number=0)
    report = embed_files([sounds], pretrained_folder, output)
    assert report.embedded == 3 and report.computed == 2
    assert calls == ["broken.wav", "a.flac", "c.ogg"]


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
    (tmp_path / "folder.npz").mkdir()
    for name in ("out.csv", "folder.npz"):
        with pytest.raises(ValueError, match="must be a file .npz or .parquet"):
            embed_files([sounds], pretrained_folder, tmp_path / name)


def test_the_hash_follows_the_weights(pretrained_folder, tmp_path):
    encoder = load_pretrained(pretrained_folder)
    model = encoder.embedding_model.model
    write_pretrained(tmp_path / "same", model)
    same = module.hash_model(tmp_path / "same")
    assert same == module.hash_model(pretrained_folder)
    next(model.parameters()).data += 1
    write_pretrained(tmp_path / "other", model)
    assert module.hash_model(tmp_path / "other") != same


OUTPUTS = ["out.npz", "out.parquet", "out"]


def read_output(output):
    """Give names, embeddings and checksums of the sounds."""
    if output.suffix == ".npz":
        with np.load(output) as arrays:
            columns = [arrays[x] for x in ("names", "embeddings", "sha256")]
            return dict(zip(columns[0].tolist(), zip(*columns[1:])))
    if output.suffix == ".parquet":
        rows = parquet.read_table(output).to_pylist()
        return {x["name"]: (x["embeddings"], x["sha256"]) for x in rows}
    found = {}
    for path in sorted(output.rglob("*.npz")):
        name = path.relative_to(output).as_posix().removesuffix(".npz")
        with np.load(path) as arrays:
            found[name] = arrays["embeddings"], str(arrays["sha256"])
    return found


def check_output(output, model, sounds):
    found = read_output(output)
    assert sorted(found) == sorted(NAMES)
    for name, (embedding, sound) in found.items():
        assert sound == hash_file(sounds / name)
        np.testing.assert_allclose(
            embedding, expected(model, sounds / name), rtol=0, atol=1e-5
        )


@pytest.fixture
def other_folder(tmp_path):
    write_pretrained(tmp_path / "other", make_model()[0])
    return tmp_path / "other"


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_finished_output_is_not_made_again(
    sounds, pretrained_folder, tmp_path, name, monkeypatch
):
    output = tmp_path / name
    first = embed_files([sounds], pretrained_folder, output)
    assert first.computed == 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = embed_files([sounds], pretrained_folder, output)
    assert again == first._replace(computed=0)
    if output.suffix:
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert {x: after[x] for x in after if x != tmp_path} == {
            x: before[x] for x in before if x != tmp_path
        }


@pytest.mark.parametrize("name", OUTPUTS)
def test_another_model_is_refused_unless_asked_for(
    sounds, pretrained_folder, other_folder, tmp_path, name
):
    output = tmp_path / name
    embed_files([sounds], pretrained_folder, output)
    with pytest.raises(ValueError, match="made with .*model=.*overwrite"):
        embed_files([sounds], other_folder, output)
    check_output(output, pretrained_folder, sounds)
    report = embed_files([sounds], other_folder, output, overwrite=True)
    assert report.computed == 3
    check_output(output, other_folder, sounds)


@pytest.mark.parametrize("name", OUTPUTS)
def test_other_sounds_of_the_same_names_are_refused_unless_asked_for(
    sounds, pretrained_folder, tmp_path, name
):
    output = tmp_path / name
    embed_files([sounds], pretrained_folder, output)
    old = (sounds / "b.wav").read_bytes()
    (sounds / "b.wav").write_bytes(old[:-1000] + bytes(1000))
    with pytest.raises(ValueError, match="sounds.*'b.wav'.*--overwrite"):
        embed_files([sounds], pretrained_folder, output)
    embed_files([sounds], pretrained_folder, output, overwrite=True)
    check_output(output, pretrained_folder, sounds)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_sound_that_became_unreadable_is_not_kept(
    sounds, pretrained_folder, tmp_path, name
):
    output = tmp_path / name
    embed_files([sounds], pretrained_folder, output)
    (sounds / "b.wav").write_bytes(b"RIFF")
    report = embed_files([sounds], pretrained_folder, output, overwrite=True)
    assert report.embedded == 2 and len(report.unreadable) == 2
    assert sorted(read_output(output)) == NAMES[1:]


def test_more_and_fewer_sounds(sounds, pretrained_folder, tmp_path):
    output, folder = tmp_path / "out.npz", tmp_path / "out"
    for place in (output, folder):
        embed_files([sounds], pretrained_folder, place)
    (sounds / "broken.wav").unlink()  # it is in neither
    assert not embed_files([sounds], pretrained_folder, output).unreadable
    (sounds / "b.wav").rename(sounds / "d.wav")
    with pytest.raises(ValueError, match="without 'd.wav' and with 'b.wav'"):
        embed_files([sounds], pretrained_folder, output)
    with pytest.raises(
        ValueError, match="was made of other sounds, with 'b.wav': "
    ):
        embed_files([sounds], pretrained_folder, folder)
    assert sorted(read_output(folder)) == NAMES
    for place in (output, folder):
        embed_files([sounds], pretrained_folder, place, overwrite=True)
        assert sorted(read_output(place)) == ["d.wav", *NAMES[1:]]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_sound_that_was_removed(sounds, pretrained_folder, tmp_path, name):
    output = tmp_path / name
    embed_files([sounds], pretrained_folder, output)
    (sounds / "b.wav").unlink()
    with pytest.raises(ValueError, match="'b.wav': .* --overwrite"):
        embed_files([sounds], pretrained_folder, output)
    embed_files([sounds], pretrained_folder, output, overwrite=True)
    assert sorted(read_output(output)) == NAMES[1:]


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_a_sound_that_changed_before_the_resume(
    sounds, pretrained_folder, tmp_path, name, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt(patch, number=3)
        with pytest.raises(KeyboardInterrupt):
            embed_files([sounds], pretrained_folder, tmp_path / name)
    assert not (tmp_path / name).exists()
    samples, rate = soundfile.read(sounds / "b.wav")
    soundfile.write(sounds / "b.wav", samples[::-1], rate)
    report = embed_files([sounds], pretrained_folder, tmp_path / name)
    assert report.computed == 3
    check_output(tmp_path / name, pretrained_folder, sounds)


def test_another_model_does_not_resume(
    sounds, pretrained_folder, other_folder, tmp_path, monkeypatch
):
    output = tmp_path / "out.npz"
    with monkeypatch.context() as patch:
        interrupt(patch, number=3)
        with pytest.raises(KeyboardInterrupt):
            embed_files([sounds], pretrained_folder, output)
    with pytest.raises(ValueError, match="made with .*model="):
        embed_files([sounds], other_folder, output)
    with monkeypatch.context() as patch:
        interrupt(patch, number=3)
        with pytest.raises(KeyboardInterrupt):
            embed_files([sounds], other_folder, output, overwrite=True)
    # what --overwrite began is resumed
    report = embed_files([sounds], other_folder, output, overwrite=True)
    assert report.computed == 2
    check_output(output, other_folder, sounds)


def test_a_damaged_piece_is_made_again(sounds, pretrained_folder, tmp_path):
    embed_files([sounds], pretrained_folder, tmp_path / "out")
    (tmp_path / "out" / "b.wav.npz").write_bytes(b"PK")
    assert embed_files([sounds], pretrained_folder, tmp_path / "out").computed
    check_output(tmp_path / "out", pretrained_folder, sounds)


@pytest.mark.parametrize("name", OUTPUTS)
def test_foreign_files_are_never_replaced(
    sounds, pretrained_folder, tmp_path, name
):
    output = tmp_path / name
    if output.suffix:
        np.savez(tmp_path / "out.npz", a=np.zeros(1))
        (tmp_path / "out.npz").rename(output)
    else:
        output.mkdir()
        np.savez(output / "thesis.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="not written by|something else"):
        embed_files([sounds], pretrained_folder, output, overwrite=True)
    assert len(list(tmp_path.rglob("*.npz")) + list(tmp_path.glob("*.p*"))) == 1


def test_two_commands_in_one_output(sounds, pretrained_folder, tmp_path):
    holder = """
import sys, time
from speechbrain_wavjepa.utils.files import hold
with hold(sys.argv[1]):
    print(flush=True)
    time.sleep(600)
"""
    for name, place in (("out", "out"), ("out.npz", "out.npz.unfinished")):
        command = [sys.executable, "-c", holder, str(tmp_path / place)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
            first.stdout.readline()
            try:
                message = f"in use by .*{first.pid} on"
                with pytest.raises(ValueError, match=message):
                    embed_files([sounds], pretrained_folder, tmp_path / name)
            finally:
                first.kill()
        assert embed_files(
            [sounds], pretrained_folder, tmp_path / name
        ).embedded


def test_silence_and_clips_shorter_than_a_token_are_told(
    other_folder, tmp_path
):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    noise = np.random.default_rng(0).standard_normal((16000, 2)) / 8
    soundfile.write(sounds / "a_fine.wav", noise, 16000)
    soundfile.write(sounds / "b_short.wav", noise[:239], 16000)
    soundfile.write(sounds / "c_silent.wav", noise * 0, 16000)
    # the model takes the first channel
    soundfile.write(sounds / "d_left.wav", noise * [0, 1], 16000)
    doubtful = {
        "b_short.wav": "shorter than a token",
        "c_silent.wav": "digital silence",
        "d_left.wav": "digital silence",
    }
    for name in OUTPUTS:
        for _ in range(2):
            report = embed_files([sounds], other_folder, tmp_path / name)
            assert report.embedded == 4
            assert report.doubtful == doubtful
    column = parquet.read_table(tmp_path / "out.parquet")["doubtful"]
    assert column.to_pylist() == ["", *doubtful.values()]
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["doubtful"].tolist() == ["", *doubtful.values()]


@pytest.mark.parametrize("timestamps", [False, True])
def test_an_output_tells_what_it_was_made_with(
    sounds, pretrained_folder, tmp_path, timestamps
):
    for name in OUTPUTS:
        embed_files([sounds], pretrained_folder, tmp_path / name, timestamps)
    with np.load(tmp_path / "out.npz") as arrays:
        found = [json.loads(str(arrays["metadata"]))]
        kinds = arrays["embeddings"].dtype
    schema = parquet.read_schema(tmp_path / "out.parquet")
    found.append(json.loads(schema.metadata[b"metadata"]))
    found.append(json.loads((tmp_path / "out" / "made_with.json").read_text()))
    for metadata in found:
        assert metadata["model"] == module.hash_model(pretrained_folder)
        assert metadata["version"] == module.__version__
        assert metadata["timestamps"] is timestamps
        assert metadata["sample_rate"] == 16000
        assert metadata["encoder_dim"] == 16
    assert list(found[0]["unreadable"]) == ["broken.wav"]
    kind = schema.field("embeddings").type
    assert (kind.value_type if timestamps else kind).value_type == "float"
    assert kinds == np.float32


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_memory_does_not_grow_with_the_number_of_files(
    pretrained_folder, tmp_path, name, monkeypatch
):
    """Gathering holds a group of rows, not all of them."""
    monkeypatch.setattr(module, "GROUP_VALUES", 10**5)
    embedding = np.random.default_rng(0).random(50_000).astype(np.float32)
    (tmp_path / "pieces").mkdir()
    names = [f"{number}.wav" for number in range(60)]
    for number, sound in enumerate(names):
        np.savez(
            tmp_path / "pieces" / f"{sound}.npz",
            embeddings=embedding + number,
            sha256=np.array("0a"),
        )
    contents = module._Contents(
        {"timestamps": False}, dict.fromkeys(names, ("0a", "")), {}
    )
    gather = getattr(module, f"_gather_{name.partition('.')[2]}")
    tracemalloc.start()
    gather(tmp_path / name, tmp_path / "pieces", contents, 50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * embedding.nbytes / 5
    found = read_output(tmp_path / name)
    assert list(found) == names
    assert all(
        np.array_equal(found[sound][0], embedding + number)
        for number, sound in enumerate(names)
    )


def test_odd_names_are_embedded_or_told(pretrained_folder, tmp_path):
    folder = os.fsencode(tmp_path / "sounds")
    os.mkdir(folder)
    samples = np.random.default_rng(0).standard_normal(1600) / 8
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    data = (tmp_path / "a.wav").read_bytes()
    good = [b"-rf.wav", b"[a]*?.wav", b"{1..3}.wav", "été.wav".encode()]
    bad = [b"a\nb.wav", b"a\\b.wav"]
    if sys.platform != "darwin":  # whose disks take UTF-8 only
        bad.append(b"\xff.wav")
    for name in (*good, *bad):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    os.mkfifo(os.path.join(folder, b"fifo.wav"))
    os.symlink(tmp_path / "a.wav", os.path.join(folder, b"link.wav"))
    os.symlink("/dev/zero", os.path.join(folder, b"zero.wav"))
    good.append(b"link.wav")
    for output in OUTPUTS:
        for _ in range(2):
            report = embed_files(
                [tmp_path / "sounds"], pretrained_folder, tmp_path / output
            )
            assert len(report.unreadable) == len(bad)
            reasons = report.unreadable.values()
            assert all("rename it" in reason for reason in reasons)
            assert report.embedded == len(good)
        found = read_output(tmp_path / output)
        assert sorted(found) == sorted(name.decode() for name in good)


def test_a_device_that_is_not_there(sounds, pretrained_folder, tmp_path):
    with pytest.raises(ValueError, match="--device gpu cannot be used here"):
        embed_files([sounds], pretrained_folder, tmp_path / "a", device="gpu")


def embed_parts(sounds, model, output, ranks=(0, 1), **options):
    """Embed as several processes do, one after the other."""
    return [
        embed_files([sounds], model, output, rank=rank, world_size=2, **options)
        for rank in ranks
    ]


@pytest.mark.parametrize("timestamps", [False, True])
def test_parts_are_read_together_as_one_data_set(
    sounds, pretrained_folder, tmp_path, timestamps
):
    folder, one = tmp_path / "parts.parquet", tmp_path / "one.parquet"
    options = {"timestamps": timestamps}
    reports = embed_parts(sounds, pretrained_folder, folder, **options)
    assert [report.embedded for report in reports] == [2, 1]
    assert sorted(len(report.unreadable) for report in reports) == [0, 1]
    assert sorted(path.name for path in folder.iterdir()) == [
        "part-00000-of-00002.parquet",
        "part-00001-of-00002.parquet",
    ]
    embed_files([sounds], pretrained_folder, one, **options)
    expected_rows = parquet.read_table(one).to_pylist()
    for table in (
        parquet.read_table(folder),  # which is what pandas calls
        dataset.dataset(folder).to_table(),
    ):
        rows = sorted(table.to_pylist(), key=lambda row: row["name"])
        assert rows == expected_rows


def test_an_unfinished_part_is_not_read_and_resumes(
    sounds, pretrained_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "parts.parquet"
    embed_parts(sounds, pretrained_folder, folder, ranks=[1])
    with monkeypatch.context() as patch:
        interrupt(patch, number=2)
        with pytest.raises(KeyboardInterrupt):
            embed_parts(sounds, pretrained_folder, folder, ranks=[0])
    assert len(list(folder.iterdir())) == 2
    assert parquet.read_table(folder).num_rows == 1
    assert dataset.dataset(folder).count_rows() == 1
    [report] = embed_parts(sounds, pretrained_folder, folder, ranks=[0])
    assert report.computed == 1 and report.embedded == 2
    assert parquet.read_table(folder).num_rows == 3


def test_a_new_file_moves_no_other_to_another_part(
    sounds, pretrained_folder, tmp_path
):
    folder = tmp_path / "parts.parquet"
    embed_parts(sounds, pretrained_folder, folder, ranks=[0])
    (sounds / "a_first.wav").write_bytes((sounds / "b.wav").read_bytes())
    embed_parts(sounds, pretrained_folder, folder, ranks=[1])
    names = parquet.read_table(folder)["name"].to_pylist()
    assert set(NAMES) <= set(names) and len(names) == len(set(names))


def test_more_processes_than_files(sounds, pretrained_folder, tmp_path):
    for name in ("out.parquet", "out"):
        for rank in range(9):
            embed_files(
                [sounds],
                pretrained_folder,
                tmp_path / name,
                rank=rank,
                world_size=9,
            )
        assert len(list((tmp_path / name).iterdir())) == 9
    table = dataset.dataset(tmp_path / "out.parquet").to_table()
    assert sorted(table["name"].to_pylist()) == NAMES
    pieces = (tmp_path / "out").glob("part-*-of-00009/**/*.npz")
    assert sorted(path.name for path in pieces) == [
        "a.flac.npz",
        "b.wav.npz",
        "c.ogg.npz",
    ]


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_parts_of_another_split_or_model_are_refused(
    sounds, pretrained_folder, other_folder, tmp_path, name
):
    output = tmp_path / name
    embed_parts(sounds, pretrained_folder, output, ranks=[0])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="-of-00002.* no part of 4 processes"):
        embed_files([sounds], pretrained_folder, output, rank=3, world_size=4)
    with pytest.raises(ValueError, match="part-00000.* made with .*model="):
        embed_parts(sounds, other_folder, output, ranks=[1])
    with pytest.raises(ValueError, match="holds something else|--world_size"):
        embed_files([sounds], pretrained_folder, output)
    assert sorted(tmp_path.rglob("*")) == before
    embed_parts(sounds, other_folder, output, overwrite=True)
    [report] = embed_parts(sounds, other_folder, output, ranks=[1])
    assert report.computed == 0


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_parts_are_not_put_into_another_output(
    sounds, pretrained_folder, tmp_path, name
):
    embed_files([sounds], pretrained_folder, tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="is no part of 2 processes: go back"):
        embed_parts(sounds, pretrained_folder, tmp_path / name, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before
