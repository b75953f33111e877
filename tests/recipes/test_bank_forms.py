"""Every documented form of a bank, head or noise, taken to the scene's end."""

import json
import tarfile

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from brir_import import import_bank
from test_brir_import import add, encode, make_responses

from speechbrain_wavjepa.augment import (
    BRIRBank,
    NoiseFolder,
    SceneMixer,
    SceneSampler,
    make_bank,
)
from speechbrain_wavjepa.utils.plots import plot_scene

PLACE = {"azimuth": 40.0, "elevation": 0.0}
ABOUT = {"sample_rate": 16000, "source": PLACE, "noise": [PLACE, PLACE]}


def write_arrays(folder):
    """A folder of arrays and nothing else."""
    for number in range(4):
        np.save(folder / f"{number}.npy", make_responses(number))


def write_arrays_and_json(folder):
    """A folder of arrays, each with a json file."""
    write_arrays(folder)
    for number in range(4):
        about = {**ABOUT, "room": f"room {number % 2}"}
        (folder / f"{number}.json").write_text(json.dumps(about))


def write_tars(folder, about=None):
    """Tar shards of arrays."""
    for shard in range(4):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            add(tar, "scene.npy", encode(make_responses(shard)))
            if about is not None:
                add(tar, "scene.json", json.dumps(about).encode())


def write_tars_and_json(folder):
    """Tar shards of arrays, each with a json file."""
    write_tars(folder, ABOUT)


def write_parts(folder):
    """Tar shards in train/ and test/."""
    for part in ("train", "test"):
        (folder / part).mkdir()
        write_tars(folder / part)


def write_regions(folder):
    """The paper's json files, beside the arrays that they name."""
    for house in range(2):
        places = []
        for row, response in enumerate(make_responses(house)):
            np.save(folder / f"{house}_{row}.npy", response)
            path = f"/elsewhere/{house}_{row}.npy"
            places.append({"rir": {"binaural_rir_path": path}, **PLACE})
        scene = {"source": places[0], "noise": places[1:]}
        regions = {"sampled_regions": [{"region": {"scene": scene}}]}
        (folder / f"house-{house}.json").write_text(json.dumps(regions))


def hear(bank_folder, noise_folder, split, receivers, path):
    """Draw and mix scenes, and draw a picture of the first."""
    bank = BRIRBank(bank_folder, 16000, split, receivers)
    sampler = SceneSampler(bank, NoiseFolder(noise_folder))
    generator = torch.Generator().manual_seed(0)
    parts = sampler(4, 8000, generator)
    assert parts.num_bad == 0
    clips = torch.randn(4, 8000, 1, generator=generator)
    scenes = SceneMixer(channels=len(receivers))(clips, parts)
    assert scenes.shape == (4, 8000, len(receivers))
    assert torch.isfinite(scenes).all() and (scenes.std(dim=1) > 0).all()
    response = parts.source_response[0].T
    plot_scene(parts.metadata[0], response, clips[0], scenes[0], path)
    assert matplotlib.image.imread(path)[:, :, :3].std() > 0.05  # not blank


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """A folder of recordings in every format, nested."""
    folder = tmp_path_factory.mktemp("noises")
    (folder / "inner").mkdir()
    random = np.random.default_rng(0)
    for number, suffix in enumerate(("wav", "flac", "ogg", "mp3")):
        noise = 0.1 * random.standard_normal((9000, 1 + number % 2))
        soundfile.write(folder / "inner" / f"a.{suffix}", noise, 16000)
    return folder


@pytest.mark.parametrize(
    "write",
    [
        write_arrays,
        write_arrays_and_json,
        write_tars,
        write_tars_and_json,
        write_parts,
        write_regions,
    ],
)
def test_a_bank_of_each_layout_is_heard(write, noises, tmp_path):
    (tmp_path / "from").mkdir()
    write(tmp_path / "from")
    left_out = import_bank(
        tmp_path / "from", tmp_path / "to", 16000, 16000, test_fraction=0.5
    )
    assert left_out == {}
    ears = ["left", "right"]
    for split in ("train", "test"):
        hear(tmp_path / "to", noises, split, ears, tmp_path / "scene.png")


def test_a_single_tar_file_is_a_bank(noises, tmp_path):
    (tmp_path / "from").mkdir()
    write_tars(tmp_path / "from")
    import_bank(tmp_path / "from" / "2.tar", tmp_path / "to", bank_rate=16000)
    path = tmp_path / "scene.png"
    hear(tmp_path / "to", noises, "train", ["left", "right"], path)


def test_a_measured_head_and_every_choice_of_receivers(
    noises, test_data, tmp_path
):
    head = test_data / "spatial" / "mit_kemar_normal_pinna.sofa"
    settings = {"num_rooms": 2, "scenes_per_room": 1, "workers": 1}
    make_bank(tmp_path / "made", **settings, hrtf=str(head))
    for receivers in (["left", "right"], ["omni"], ["left", "right", "omni"]):
        path = tmp_path / "scene.png"
        hear(tmp_path / "made", noises, "train", receivers, path)
    import_bank(tmp_path / "made", tmp_path / "again")
    first, again = BRIRBank(tmp_path / "made"), BRIRBank(tmp_path / "again")
    assert torch.equal(first[0].responses, again[0].responses)
