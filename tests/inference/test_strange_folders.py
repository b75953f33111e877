"""Pretrained folders of strangers: damaged, dangerous or without end."""

import functools
import http.server
import os
import re
import resource
import struct
import subprocess
import sys
import threading
import zipfile

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from official_factory import make_model, sign
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.utils.fetching import FetchConfig
from speechbrain.utils.parameter_transfer import Pretrainer

from speechbrain_wavjepa.cli import main
from speechbrain_wavjepa.inference import (
    LinearClassifier,
    hear,
    load_pretrained,
    write_pretrained,
)
from speechbrain_wavjepa.inference.config import (
    build_encoder,
    list_code,
    read_settings,
)
from speechbrain_wavjepa.inference.export import export_program
from speechbrain_wavjepa.inference.pretrained import read_weights, write_weights
from speechbrain_wavjepa.integrations import write_official
from speechbrain_wavjepa.nnet import LayerSum


@pytest.fixture
def folder(tmp_path):
    """A folder of which every kind of file is there."""
    path = tmp_path / "pretrained"
    write_pretrained(
        path,
        make_model()[0],
        classifier=LinearClassifier(16, 2),
        labels=["dog", "rain"],
        layer_sum=LayerSum(3),
    )
    return path


def flip_a_bit(path):
    """Change one weight of a file of torch.save a little."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = next(x for x in archive.infolist() if "/data/" in x.filename)
    name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
    data[member.header_offset + 30 + name + extra + 1] ^= 1
    path.write_bytes(data)


def from_hparams(folder):
    EncoderClassifier.from_hparams(source=str(folder))


def load_hear(folder):
    hear.load_model(str(folder))


def export(folder):
    export_program(folder, folder.with_name("encoder.pt2"))


LOADERS = [from_hparams, load_pretrained, load_hear, export]


@pytest.mark.parametrize(
    ("name", "loaders"),
    [
        ("wavjepa.ckpt", LOADERS),
        ("layer_sum.ckpt", LOADERS),
        ("classifier.ckpt", [from_hparams]),
        ("label_encoder.ckpt", [from_hparams]),
    ],
)
def test_a_flipped_bit_is_noticed(folder, name, loaders, capsys):
    if name == "label_encoder.ckpt":
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("dog", "dob"))
    else:
        before = read_weights(folder / name)
        flip_a_bit(folder / name)
        after = torch.load(folder / name, weights_only=True)  # without a word
        assert any(not torch.equal(after[key], before[key]) for key in before)
    for loader in loaders:
        with pytest.raises(ValueError, match=f"{name} differs from its check"):
            loader(folder)
    commands = [["info", str(folder)]]
    if len(loaders) > 1:
        output = f"--output={folder.with_name('out.npz')}"
        commands += [["embed", str(folder), f"--model={folder}", output]]
    for command in commands:
        assert main(command) == 2
        assert f"{name} differs from its checksum" in capsys.readouterr().err
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {"pretrained"}


def test_a_flipped_bit_does_not_reach_the_authors_files(tmp_path):
    write_pretrained(tmp_path / "a", make_model()[0])
    flip_a_bit(tmp_path / "a" / "pretraining.ckpt")
    with pytest.raises(ValueError, match="pretraining.ckpt differs from its"):
        write_official(tmp_path / "a", tmp_path / "back.ckpt")
    assert not (tmp_path / "back.ckpt").exists()


def test_weights_that_are_not_finite(folder, tmp_path):
    state = read_weights(folder / "wavjepa.ckpt")
    state["context_encoder.norm.bias"][3] = torch.nan
    write_weights(state, folder / "wavjepa.ckpt")
    sign(folder)  # as whoever made them would
    for loader in LOADERS:
        with pytest.raises(ValueError, match="finite in context_encoder.norm"):
            loader(folder)
    for part in ("context_encoder", "predictor.encoder"):
        model = make_model()[0]
        model.get_submodule(part).norm.bias.data[0] = torch.inf
        with pytest.raises(ValueError, match="weights that are not finite"):
            write_pretrained(tmp_path / "new", model)
    assert not (tmp_path / "new").exists()


def test_embeddings_that_are_not_finite(folder):
    encoder = load_pretrained(folder)
    encoder.embedding_model.model.token_norm.bias[0] = torch.nan
    with pytest.raises(ValueError, match="embeddings that are not finite"):
        encoder.embed(torch.randn(1, 16000))


def test_a_folder_without_checksums(folder):
    path = folder / "hyperparams.yaml"
    text = re.sub(r"checksums:\n(  .*\n)+", "checksums: {}\n", path.read_text())
    path.write_text(text)
    with pytest.raises(ValueError, match="wavjepa.ckpt: make the folder"):
        load_pretrained(folder)
    with pytest.raises(ValueError, match="There are no checksums of"):
        from_hparams(folder)


def test_a_savedir_of_another_model(folder, tmp_path):
    """SpeechBrain takes the first model's files for the second's."""
    write_pretrained(tmp_path / "other", make_model()[0])
    savedir = str(tmp_path / "cache")
    for _ in range(2):
        EncoderClassifier.from_hparams(source=str(folder), savedir=savedir)
    with pytest.raises(ValueError, match="cache holds the files of another"):
        EncoderClassifier.from_hparams(
            source=str(tmp_path / "other"), savedir=savedir
        )


@pytest.mark.parametrize("source", ["nobody/nothing", "no/such/folder", "."])
def test_a_savedir_that_cannot_be_compared(
    folder, tmp_path, source, monkeypatch
):
    """A mistyped source, or no network: the savedir's model is not it."""
    savedir = tmp_path / "cache"
    EncoderClassifier.from_hparams(source=str(folder), savedir=str(savedir))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"no source {source}, or .*cache and"):
        EncoderClassifier.from_hparams(
            source=source,
            savedir=str(savedir),
            fetch_config=FetchConfig(allow_network=False),
        )
    from_hparams(savedir)  # the way out that the message names


def test_a_savedir_of_a_web_address(folder, tmp_path):
    """SpeechBrain reads none without a savedir."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    write_pretrained(tmp_path / "other", make_model()[0])
    load = functools.partial(
        EncoderClassifier.from_hparams, savedir=str(tmp_path / "cache")
    )
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        place = f"http://localhost:{server.server_port}"
        for _ in range(2):
            load(source=f"{place}/{folder.name}")
        with pytest.raises(ValueError, match="cache holds the files of anot"):
            load(source=f"{place}/other")
        with pytest.raises(ValueError, match="no source http.*nowhere, or it"):
            load(source=f"{place}/nowhere")
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("name", ["pretraining.ckpt", "wavjepa.ckpt"])
def test_a_pretrainer_without_a_hook_is_strict(tmp_path, name):
    """SpeechBrain's own transfer hook only warns."""
    model, settings = make_model()
    write_pretrained(tmp_path / "a", model)
    depth = 3 if name == "pretraining.ckpt" else 4
    other = build_encoder({**settings, "encoder_depth": depth})
    pretrainer = Pretrainer(
        loadables={"wavjepa": other},
        paths={"wavjepa": str(tmp_path / "a" / name)},
    )
    pretrainer.collect_files()
    with pytest.raises(RuntimeError, match="Missing key"):
        pretrainer.load_collected()


def test_a_hub_s_cache_of_links(folder, tmp_path):
    """Its snapshots consist of links into a folder beside them."""
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0a1b"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(folder.iterdir()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    embedding = load_pretrained(snapshot).embed(torch.randn(1, 16000))
    assert embedding.shape == (1, 1, 16)
    from_hparams(snapshot)
    assert main(["info", str(snapshot)]) == 0


@pytest.mark.parametrize("name", ["hyperparams.yaml", "wavjepa.ckpt"])
def test_a_fifo_in_place_of_a_file(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=f"has no {name}|missing or not a"):
        load_pretrained(folder)
    assert main(["info", str(folder)]) == 2


@pytest.mark.parametrize("name", ["-x", "{a..b}[c]*?", "a\nb", "été"])
def test_a_folder_of_an_odd_name(folder, name, capsys):
    odd = folder.rename(folder.with_name(name))
    from_hparams(odd)
    assert main(["info", str(odd)]) == 0


def most_memory():
    """Give the most bytes that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_dim", "1000000000"),
        ("encoder_dim", "1000000"),
        ("encoder_depth", "1000000000"),
        ("encoder_heads", "0"),
        ("encoder_mlp_ratio", "1.0e+18"),
        ("encoder_mlp_ratio", ".nan"),
        ("channels", "1000000000"),
        ("frontend_layers", "[[8, 0, 0]]"),
        ("frontend_layers", "[[8]]"),
        ("frontend_layers", "[8, 8, 8]"),
        ("window_samples", "1000000000000"),
        ("window_batch", "1000000000"),
        ("sample_rate", "1000000000"),
        ("level_db", "1.0e+300"),
    ],
)
def test_sizes_without_end(folder, name, value):
    change(folder, name, value)
    before = most_memory()
    with pytest.raises(ValueError, match=f"{name}|does not fit the model"):
        load_pretrained(folder)
    assert most_memory() - before < 200 * 2**20


def change(folder, name, value):
    """Change a setting of a pretrained folder."""
    path = folder / "hyperparams.yaml"
    text, count = re.subn(
        rf"^{name}:.*\n(-.*\n)*",
        f"{name}: {value}\n",
        path.read_text(),
        flags=re.M,
    )
    assert count == 1
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window_samples", "3200000000"),
        ("window_samples", "16777216"),
        ("encoder_dim", "1000000"),
        ("channels", "1000000000"),
        ("predictor_dim", "1000000000"),
        ("predictor_mlp_ratio", ".inf"),
        ("frontend_layers", "[[8, 0, 0]]"),
    ],
)
def test_sizes_without_end_on_the_way_back(tmp_path, name, value, capsys):
    folder = tmp_path / "pretrained"
    write_pretrained(folder, make_model()[0])
    change(folder, name, value)
    if value == "16777216":  # tables of 2**24 tokens
        text = (folder / "hyperparams.yaml").read_text()
        text = re.sub(r", \d+\]", ", 1]", text)
        (folder / "hyperparams.yaml").write_text(text)
    before = most_memory()
    back = tmp_path / "back.ckpt"
    assert main(["convert", "--reverse", str(folder), str(back)]) == 2
    assert re.search(f"{name}|does not fit the", capsys.readouterr().err)
    assert most_memory() - before < 200 * 2**20
    assert not back.exists()


def test_a_setting_of_pretraining_does_not_stop_an_encoder(tmp_path):
    write_pretrained(tmp_path / "a", make_model()[0])
    change(tmp_path / "a", "predictor_heads", "many")
    encoder = load_pretrained(tmp_path / "a")
    assert encoder.embed(torch.ones(1, 9)).isfinite().all()


def test_info_tells_which_files_are_there(folder, capsys):
    model = make_model()[0]
    write_pretrained(folder.with_name("whole"), model)
    (folder.with_name("whole") / "pretraining.ckpt").unlink()
    assert main(["info", str(folder.with_name("whole"))]) == 0
    printed = capsys.readouterr().out
    assert re.search("left out +pretraining.ckpt", printed)
    write_weights({}, folder / "optimizer.ckpt")
    assert main(["info", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert re.search("without checksum +optimizer.ckpt", printed)
    for name in ("classifier.ckpt", "label_encoder.ckpt", "layer_sum.ckpt"):
        (folder / name).rename(folder / "aside")
        assert main(["info", str(folder)]) == 2
        printed = capsys.readouterr()
        assert f"{name} cannot be read: it is missing" in printed.err
        assert "checksums" not in printed.out
        (folder / "aside").rename(folder / name)
    path = folder / "hyperparams.yaml"
    path.write_text(path.read_text().replace("  classifier: ", "  ../x: "))
    assert main(["info", str(folder)]) == 2
    assert "'../x.ckpt' cannot be a name" in capsys.readouterr().err


def test_weights_without_end(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(ValueError, match="claims 4000000000000 bytes"):
        read_weights(path)
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "large.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "large.ckpt") as large,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in large.namelist():
            small.writestr(name, large.read(name))
    with pytest.raises(ValueError, match="members claim more bytes than it"):
        read_weights(path)
    for other in (
        [1],
        {"a": 1},
        {1: torch.ones(1)},
        {"a": torch.ones(1).int()},
    ):
        torch.save(other, path)
        with pytest.raises(ValueError, match="other things than weights"):
            read_weights(path)


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "alias"),
        ("a: &a [*a]\n", "alias"),
        ("a: " + "[" * 20000, "recursion"),
        ("a: " + "9" * 10000, "4300 digits"),
        ("a: 1\n" * 2, "duplicate"),
        ("#" * 2**21, "has over"),
        (b"a: \xff\xfe", "codec"),
    ],
)
def test_a_yaml_that_is_a_trap(tmp_path, text, message):
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "hyperparams.yaml").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_settings(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 2


PYTHON = r"'(\x21\x21python/object/apply:os\x2emkdir [VICTIM])'"
CODE = [
    "notes: {date: !apply:os.mkdir ['VICTIM']}",
    "notes: [[!apply:os.mkdir ['VICTIM']]]",
    "notes: !new:builtins.dict {a: !apply:os.mkdir ['VICTIM']}",
    "notes: !applyref:os.mkdir ['VICTIM']",
    "notes: !!python/object/apply:os.mkdir ['VICTIM']",
    "notes: !<!apply:os.mkdir> ['VICTIM']",
    "%TAG !e! !apply:\n---\nnotes: !e!os.mkdir ['VICTIM']",
    "notes: !include:other.yaml",
    # texts in parentheses are read again, as yaml with Python's tags
    "notes: (!!python/object/apply:os.mkdir [VICTIM])",
    "notes: '(!!python/object/apply:os.mkdir [VICTIM])'",
    "a: '!!python/object/apply:os.mkdir [VICTIM]'\nb: !ref (<a>)",
    "a: '!!python/object/apply:os.mkdir [VICTIM]'\nb: '(<a>)'\nc: !ref <b>",
    # references are evaluated as Python, which writes a tag without its mark
    "a: ''\nnotes: !ref |-\n  " + PYTHON + "<a>",
    "a: ''\nb: |-\n  " + PYTHON + "<a>\nnotes: !ref <b>",
    "a: ''\nb: |-\n  " + PYTHON + "<a>\nnotes: !copy <b>",
]
RUN = "import sys, hyperpyyaml; hyperpyyaml.load_hyperpyyaml(open(sys.argv[1]))"


@pytest.mark.parametrize("text", CODE)
def test_whatever_would_run_is_listed(tmp_path, capsys, text):
    victim = tmp_path / "victim"
    path = tmp_path / "hyperparams.yaml"
    code = "a: !apply:os.mkdir ['VICTIM']".replace("VICTIM", str(victim))
    (tmp_path / "other.yaml").write_text(code)
    path.write_text(text.replace("VICTIM", str(victim)) + "\n")
    main(["info", str(tmp_path)])
    listed = capsys.readouterr().out.partition("would run:")[2]
    assert "mkdir" in listed or "!include:other.yaml" in listed
    assert not victim.exists()
    # in a process of its own, since HyperPyYAML behaves otherwise afterwards
    subprocess.run([sys.executable, "-c", RUN, str(path)], check=False)
    assert victim.exists()


def test_settings_cannot_hide_the_list(tmp_path, capsys):
    text = r'"a\nfrom_hparams would run:\n\e[8m": "b\rc"' + "\n"
    text += "? !name:os.mkdir\n: 1\n"
    text += "notes: !apply:os.mkdir%0A%1B[8m [a]\nattribute: !ref <notes.x>\n"
    (tmp_path / "hyperparams.yaml").write_text(text)
    main(["info", str(tmp_path)])
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 6
    assert "\x1b" not in printed and "\r" not in printed
    assert {"!ref <notes.x>", "!name:os.mkdir"} <= set(list_code(tmp_path))


def test_what_hyperpyyaml_read_before_changes_nothing(tmp_path):
    """It teaches ruamel.yaml, for all of the process, to see tuples."""
    text = "a: (own sounds)\nb: (!!python/name:os.x)\n"
    (tmp_path / "hyperparams.yaml").write_text(text)
    for _ in range(2):
        assert read_settings(tmp_path)["a"] == "(own sounds)"
        assert list_code(tmp_path) == ["the text (!!python/name:os.x)"]
        assert load_hyperpyyaml("a: (1, 2)\n") == {"a": (1, 2)}


@pytest.mark.parametrize(
    "text", ["a: below 3 dB\n", "a: 1\nb: !ref <a>\nc: !copy <b[0]>\n"]
)
def test_plain_texts_and_references_are_not_listed(tmp_path, text):
    (tmp_path / "hyperparams.yaml").write_text(text)
    assert list_code(tmp_path) == []


def test_our_own_folders_list_nothing_strange(folder):
    allowed = ("!new:speechbrain", "!apply:speechbrain", "!name:speechbrain")
    assert all(code.startswith(allowed) for code in list_code(folder))
