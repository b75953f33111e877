"""The convolutional front-end and its sparse gradient."""

import pytest
import torch

from speechbrain_wavjepa.lobes import ConvFrontend
from speechbrain_wavjepa.nnet.sparse_conv import find_active_rows
from speechbrain_wavjepa.nnet.transformer import map_tensors

SMALL = [[8, 10, 5], [12, 3, 2], [16, 3, 2], [16, 2, 2]]


def test_num_tokens_is_the_output_length():
    frontend = ConvFrontend(16, SMALL)
    generator = torch.Generator().manual_seed(0)
    for length in torch.randint(60, 3000, (200,), generator=generator):
        waveform = torch.randn(1, int(length), 1)
        num_tokens = frontend.num_tokens(int(length))
        if num_tokens:
            assert frontend(waveform).shape == (1, num_tokens, 16)
        else:
            with pytest.raises(ValueError, match=str(int(length))):
                frontend(waveform)


@pytest.mark.parametrize(
    "layers", [SMALL, [[8, 20, 10], [8, 4, 4]], [[8, 3, 5], [8, 2, 1]]]
)
def test_stride_and_receptive_field(layers):
    frontend = ConvFrontend(layers[-1][0], layers)
    stride, field = frontend.stride, frontend.receptive_field
    for count in (1, 2, 5, 17):
        least = field + (count - 1) * stride
        assert frontend(torch.randn(1, least, 1)).shape[1] == count
        assert frontend.num_tokens(least - 1) == count - 1


@pytest.mark.parametrize(
    "samples, tokens", [(32000, 199), (32079, 199), (32080, 200), (32239, 200)]
)
def test_the_papers_front_end_gives_200_tokens(samples, tokens):
    frontend = ConvFrontend()
    assert frontend.num_tokens(samples) == tokens
    assert (frontend.stride, frontend.receptive_field) == (160, 240)


def test_group_norm_follows_the_first_layer_only():
    names = dict(ConvFrontend(16, SMALL).named_parameters())
    assert sorted(names) == [
        "stacks.0.layers.0.weight",
        "stacks.0.layers.1.weight",
        "stacks.0.layers.2.weight",
        "stacks.0.layers.3.weight",
        "stacks.0.norm.bias",
        "stacks.0.norm.weight",
    ]


@pytest.mark.parametrize("share_weights", [False, True])
def test_two_channels(share_weights, device):
    frontend = ConvFrontend(16, SMALL, 2, share_weights).to(device)
    waveform = torch.randn(3, 1000, 2, device=device)
    tokens = frontend(waveform)
    num_tokens = frontend.num_tokens(1000)
    assert tokens.shape == (3, 2 * num_tokens, 16)
    swapped = frontend(waveform.flip(2))
    same = torch.equal(tokens[:, :num_tokens], swapped[:, num_tokens:])
    assert same == share_weights
    assert len(frontend.stacks) == (1 if share_weights else 2)
    # the channels are channel-major: the second one moves the second half
    waveform[:, :, 1] = 0
    changed = frontend(waveform)
    assert torch.equal(changed[:, :num_tokens], tokens[:, :num_tokens])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_sparse_gradient_is_exact(channels, density, device):
    torch.manual_seed(0)
    frontend = ConvFrontend(16, SMALL, channels).double().to(device)
    with torch.no_grad():  # no symmetry that could hide a mistake
        for parameter in frontend.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    waveform = 0.5 + torch.randn(3, 801, channels, device=device).double()
    num_tokens = channels * frontend.num_tokens(801)
    mask = torch.rand(3, num_tokens) < density
    mask[0, 0] = mask[0, -1] = True
    weight = torch.randn(3, num_tokens, 16, device=device).double()
    weight = weight * mask.to(device)[:, :, None]
    gradients = []
    found = frontend.find_gradient_rows(mask)
    for rows in (None, map_tensors(lambda index: index.to(device), found)):
        frontend.zero_grad()
        tokens = frontend(waveform, rows)
        (tokens * weight).sum().backward()
        gradients.append([p.grad.clone() for p in frontend.parameters()])
    for dense, sparse in zip(*gradients):
        assert dense.abs().max() > 0
        torch.testing.assert_close(sparse, dense, rtol=1e-11, atol=1e-11)


def test_sparse_gradient_under_bf16_is_close():
    torch.manual_seed(0)
    frontend = ConvFrontend(16, SMALL)
    waveform = torch.randn(4, 2000, 1)
    mask = torch.rand(4, frontend.num_tokens(2000)) < 0.3
    gradients = []
    for enabled in (False, True):
        frontend.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            tokens = frontend(waveform, frontend.find_gradient_rows(mask))
        tokens[mask].float().square().mean().backward()
        gradients.append([p.grad.clone() for p in frontend.parameters()])
    for exact, rounded in zip(*gradients):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.05 * exact.norm()


def test_active_rows_are_what_a_token_depends_on():
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[0, 4] = True
    bottom, middle, top = find_active_rows(mask, [3, 3], [2, 2])
    assert top.position.tolist() == [4]
    assert middle.position.tolist() == [8, 9, 10]
    assert bottom.position.tolist() == list(range(16, 23))


def test_wrong_channels_and_dims_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 1000, 3\]"):
        ConvFrontend(16, SMALL)(torch.zeros(1, 1000, 3))
    with pytest.raises(ValueError, match="dim=20"):
        ConvFrontend(20, SMALL)
