"""--compile: the same model, and no compilation from step to step."""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from train import WavJEPABrain, check_compile

from speechbrain_wavjepa.lobes import (
    BlockMasker,
    ConvFrontend,
    Predictor,
    TargetEncoder,
    WavJEPA,
    masked_mse,
)
from speechbrain_wavjepa.nnet import TransformerEncoder

LAYERS = [[8, 10, 5], [8, 4, 4], [8, 8, 8]]  # 60 tokens from 9,640 samples


def make_options(**options):
    """Make run options as SpeechBrain's defaults."""
    defaults = {
        "compile": True,
        "compile_module_keys": None,
        "compile_mode": "default",
        "compile_using_fullgraph": True,
    }
    overridden = {"overridden_args": set(options)}
    return SimpleNamespace(**{**defaults, **options, **overridden})


def make_models(monkeypatch, backend, depth=2):
    """Make a model that the recipe compiles, and the same not compiled."""
    torch.manual_seed(0)
    encoder = TransformerEncoder(16, depth, 2)
    eager = WavJEPA(
        ConvFrontend(8, LAYERS),
        encoder,
        TargetEncoder(encoder, depth),
        Predictor(16, 8, 1, 2),
    )
    compiled, brain = copy.deepcopy(eager), make_options()
    brain.hparams = SimpleNamespace(wavjepa=compiled)
    torch.compiler.reset()
    choose = functools.partial(torch.compile, backend=backend)
    monkeypatch.setattr(torch, "compile", choose)
    with torch._dynamo.config.patch(optimize_ddp=True):  # undone behind it
        WavJEPABrain._compile(brain)
    return compiled, eager


def compute_loss(model, seed, num_windows=5):
    """Compute the loss of windows under masks of their own."""
    generator = torch.Generator().manual_seed(seed)
    masker = BlockMasker(target_span=5, context_drop_span=5)
    mask = masker(num_windows, 60, generator=generator)
    waveform = torch.randn(num_windows, 9640, 1, generator=generator)
    output = model(waveform, mask)
    return masked_mse(output.prediction, output.target, output.mask)


def test_nothing_is_compiled_from_step_to_step(monkeypatch):
    counter = CompileCounter()
    compiled, eager = make_models(monkeypatch, counter)
    counts = []
    for step in range(8):
        for model in (compiled, eager):
            model.zero_grad()
            loss = compute_loss(model, step)
            loss.backward()
        assert loss == compute_loss(compiled, step)
        for ours, theirs in zip(compiled.parameters(), eager.parameters()):
            torch.testing.assert_close(ours.grad, theirs.grad)
        compiled.target_encoder.update(compiled.context_encoder, 0.9)
        eager.target_encoder.update(eager.context_encoder, 0.9)
        counts.append(counter.frame_count)
    assert counts[0] == 3  # three modules, no graph break
    assert counts[-1] == counts[2] <= 6
    with torch.no_grad():  # validation, whose last batch is smaller
        for step in range(8):
            compute_loss(compiled, step, 3 if step % 4 == 3 else 5)
            counts.append(counter.frame_count)
    assert counts[-1] == counts[11] <= 10
    compute_loss(compiled, 20)
    assert counter.frame_count == counts[-1]


def test_compiled_weights_keep_their_names(monkeypatch):
    compiled, eager = make_models(monkeypatch, "eager")
    names = list(eager.state_dict())
    assert list(compiled.state_dict()) == names
    assert [name for name, _ in compiled.named_parameters()] == [
        name for name, _ in eager.named_parameters()
    ]
    eager.load_state_dict(compiled.state_dict())
    compiled.load_state_dict(eager.state_dict())


def test_inductor_gives_the_same_loss(monkeypatch):
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("needs a C++ compiler")
    # without vector instructions, whose checks take a minute
    with torch._inductor.config.patch({"cpp.vec_isa_ok": False}):
        compiled, eager = make_models(monkeypatch, "inductor", depth=1)
        with torch.no_grad():
            for seed in range(2):
                torch.testing.assert_close(
                    compute_loss(compiled, seed),
                    compute_loss(eager, seed),
                    rtol=1e-5,
                    atol=0,
                )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compile": False, "compile_mode": "lite"}, "need --compile"),
        ({"compile_module_keys": ["wavjepa"]}, "must be among"),
        ({"compile_mode": "fast"}, "--compile_mode fast must be one of"),
    ],
)
def test_options_that_would_do_nothing(options, message):
    check_compile(make_options())
    with pytest.raises(ValueError, match=message):
        check_compile(make_options(**options))
