"""What runs on a GPU, also without one: on tensors without numbers.

FakeTensorMode gives tensors a device and no numbers. It refuses operations
across devices, and what depends on numbers that only the device would know.
With ``--device cuda`` the same runs for real.
"""

import contextlib
from typing import Any, NamedTuple

import pytest
import torch
from speechbrain import Stage
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train import WavJEPABrain

from speechbrain_wavjepa.augment import SceneMixer, SceneSampler
from speechbrain_wavjepa.augment.brir import RoomScene
from speechbrain_wavjepa.dataio import ClipCollator
from speechbrain_wavjepa.dataio.stream import Clip, StreamPosition
from speechbrain_wavjepa.evaluation.probes import (
    GridPoint,
    ProbeBank,
    probe_loss,
)
from speechbrain_wavjepa.lobes import (
    BlockMasker,
    ConvFrontend,
    LeafFrontend,
    MelFrontend,
    Predictor,
    SincFrontend,
    TargetEncoder,
    WavJEPA,
    WavJEPAEmbedding,
)
from speechbrain_wavjepa.nnet import LayerSum, TransformerEncoder, positions

WINDOW = 9640  # samples


class NothingMoves(TorchDispatchMode):
    """Refuses copies between devices, but for single numbers."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        leaves = tree_leaves((arguments, options, result))
        tensors = [x for x in leaves if isinstance(x, torch.Tensor) and x.dim()]
        kinds = {tensor.device.type for tensor in tensors}
        assert len(kinds) <= 1, f"{function} moves between {kinds}"
        return result


class AsIfTrue(TorchDispatchMode):
    """Answers what Python asks a tensor without numbers: True."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return True
        return function(*arguments, **(options or {}))


@contextlib.contextmanager
def no_synchronization():
    """Refuse what makes the host wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class GPU(NamedTuple):
    """A real one, or the appearance of one."""

    device: torch.device
    tensors: Any  # a context in which tensors are on it
    nothing_waits: Any  # one in which the host must not wait for it
    as_if_true: Any


@pytest.fixture
def gpu(device, monkeypatch):
    """A GPU; its tensors have no numbers where there is none."""
    if device.type == "cuda":
        nothing = contextlib.nullcontext()
        yield GPU(device, nothing, no_synchronization(), nothing)
        return
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    # parameters of another kind cannot be changed in place
    setting = "overwrite_module_params_on_conversion"
    before = getattr(torch.__future__, f"get_{setting}")()
    getattr(torch.__future__, f"set_{setting}")(True)
    positions._cached_table.cache_clear()
    yield GPU(
        torch.device("cuda"),
        FakeTensorMode(allow_non_fake_inputs=True),
        NothingMoves(),
        AsIfTrue(),
    )
    positions._cached_table.cache_clear()
    getattr(torch.__future__, f"set_{setting}")(before)


FRONTENDS = {
    "conv": lambda c: ConvFrontend(8, [[8, 10, 5], [8, 4, 4], [8, 8, 8]], c),
    "leaf": lambda c: LeafFrontend(8, 12, channels=c, filter_stride=4),
    "sinc": lambda c: SincFrontend(8, 12, channels=c),
    "mel": lambda c: MelFrontend(8, 12, "pcen", channels=c),
}


def make_model(channels, frontend="conv"):
    """Make a small model."""
    encoder = TransformerEncoder(24, 3, 3)
    return WavJEPA(
        FRONTENDS[frontend](channels),
        encoder,
        TargetEncoder(encoder, 2),
        Predictor(24, 16, 2, 2),
    )


def make_batch(model, scenes):
    """Collate clips of unequal lengths, complete with masks and scenes."""
    room = RoomScene("0", torch.randn(4, 2, 800), {"t60": 0.3})
    channels = model.frontend.channels
    collator = ClipCollator(
        BlockMasker(target_span=5, context_drop_span=5),
        num_tokens=model.frontend.num_tokens(WINDOW),
        windows_per_clip=3,
        window_samples=WINDOW,
        clip_samples=12000,
        channels=channels,
        find_gradient_rows=model.frontend.find_gradient_rows,
        scene_sampler=SceneSampler([room], [torch.randn(9000)])
        if scenes
        else None,
    )
    own_channels = 1 if scenes else channels
    return collator(
        [
            Clip(torch.randn(length, own_channels), "a", StreamPosition())
            for length in (12000, 10001, 5000)
        ]
    )


@pytest.mark.parametrize(
    "channels, scenes, frontend",
    [
        (1, False, "conv"),
        (2, False, "conv"),
        (2, True, "conv"),
        (1, False, "leaf"),
        (2, False, "sinc"),
        (1, False, "mel"),
    ],
)
def test_forward_pass_loss_and_update_never_wait(
    gpu, channels, scenes, frontend
):
    model = make_model(channels, frontend)
    batch = make_batch(model, scenes)
    brain = WavJEPABrain(
        {"wavjepa": model},
        hparams={"scene_mixer": SceneMixer(), "window_samples": WINDOW},
        run_opts={"device": "cpu"},
    )
    with gpu.tensors:
        brain.device = str(gpu.device)
        model.to(gpu.device)
        batch.pin_memory().to(gpu.device, non_blocking=True)

        def step():
            # without a GPU autocast("cuda") does nothing
            with torch.autocast(
                "cuda", torch.bfloat16, torch.cuda.is_available()
            ):
                output = brain.compute_forward(batch, Stage.TRAIN)
                loss = brain.compute_objectives(output, batch, Stage.TRAIN)
            model.update_target(0.999)
            return output, loss

        step()  # makes the tables of positions
        with gpu.nothing_waits:
            output, loss = step()
    assert output.prediction.device.type == loss.device.type == "cuda"
    assert len(output.prediction) == batch.mask.target_masks.sum()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "padded", "layer_sum"])
def test_embeddings_are_computed_on_the_gpu(gpu, channels, kind):
    model = make_model(channels)
    settings = {
        "padded": {"padding_in_statistics": True},
        "layer_sum": {"layer_sum": LayerSum(3), "overlap": 0.25},
    }
    embedding = WavJEPAEmbedding(model, WINDOW, **settings.get(kind, {}))
    with gpu.tensors, gpu.as_if_true:
        embedding.to(gpu.device)
        clips = torch.randn(3, 25000, channels, device=gpu.device)
        vectors = embedding(clips)
        tokens, _, counts = embedding.tokens(clips[:, :5000])
    assert vectors.shape == (3, 1, 24)
    for tensor in (vectors, tokens, counts):
        assert tensor.device.type == "cuda"


@pytest.mark.parametrize("multiclass", [True, False])
@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_nothing_in_a_probe_waits_for_the_gpu(gpu, multiclass, hidden_layers):
    points = [GridPoint(hidden_layers, 8), GridPoint(hidden_layers, 8, lr=0.1)]
    bank = ProbeBank.draw(points, 24, 5, torch.Generator())
    with gpu.tensors:
        bank.tensors = {k: v.to(gpu.device) for k, v in bank.tensors.items()}
        rows = torch.randn(10, 24, device=gpu.device)
        targets = torch.ones(10, 5, device=gpu.device)
        with gpu.nothing_waits:
            logits = bank(rows, training=True)
            loss = probe_loss(logits, targets, multiclass)
    assert loss.shape == (2,) and loss.device.type == "cuda"
