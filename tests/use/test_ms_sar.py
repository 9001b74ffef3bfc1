"""MS-SAR against a slow loop over neurons, and its identities."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from whatwhere.errors import InputError
from whatwhere.use import MSSAR, SE
from whatwhere.use.partition import scaled_by_cells


def by_definition(module, x):
    """Neuron by neuron: the means of the cells that contain it, concatenated, two layers, a sigmoid."""
    n, _, h, w = x.shape
    y = torch.empty_like(x)
    first = torch.cat([layer.weight for layer in module.reduce], 1)
    for i in range(n):
        for row in range(h):
            for column in range(w):
                described, cell = [], None
                for s in module.scales:
                    inside = [
                        [(r * 0 + a) for a in range(size) if bounds(size, s)[0][k] <= a < bounds(size, s)[1][k]]
                        for r, (size, at) in enumerate(((h, row), (w, column)))
                        for k in [which(size, s, at)]
                    ]
                    described.append(x[i][:, inside[0]][:, :, inside[1]].mean((1, 2)))
                    cell = (which(h, s, row), which(w, s, column))
                hidden = (first @ torch.cat(described) + module.reduce[0].bias).relu()
                expand, bias = module.expand.weight, module.expand.bias
                if module.weights == "per-cell":
                    expand, bias = expand[cell], bias[cell]
                z = (2 if module.identity_init else 1) * torch.sigmoid(expand @ hidden + bias)
                y[i, :, row, column] = x[i, :, row, column] * z
    return y


def bounds(size, cells):
    edges = [k * size // cells for k in range(cells + 1)]
    return edges[:-1], edges[1:]


def which(size, cells, at):
    low, high = bounds(size, cells)
    return next(k for k in range(cells) if low[k] <= at < high[k])


@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4), (2, 4), (1, 3)])
@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (5, 9), (2, 3), (1, 1)])
@pytest.mark.parametrize("weights", ["shared", "per-cell"])
def test_it_follows_the_definition(scales, shape, weights):
    torch.manual_seed(0)
    module = MSSAR(6, scales, ratio=2, weights=weights)
    x = torch.randn(2, 6, *shape)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        for gradients in (True, False):  # two ways to multiply
            with torch.set_grad_enabled(gradients):
                torch.testing.assert_close(module(given), by_definition(module, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [7, 8])
def test_the_result_lies_as_the_map_does_with_and_without_gradients(dtype, size):
    x, gate = torch.randn(2, 6, size, size, dtype=dtype), torch.rand(2, 4, 4, 6)
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        followed = scaled_by_cells(given, gate)
        with torch.no_grad():
            alone = scaled_by_cells(given, gate)
        assert alone.dtype == followed.dtype == torch.float32
        assert alone.stride() == followed.stride() == given.stride()
        assert torch.equal(alone, followed)


def test_one_scale_is_torchvisions_squeeze_and_excitation():
    torch.manual_seed(0)
    ours, theirs = SE(32, ratio=4), SqueezeExcitation(32, 8)
    for conv, linear in ((theirs.fc1, ours.reduce[0]), (theirs.fc2, ours.expand)):
        conv.weight.data, conv.bias.data = linear.weight.data[:, :, None, None], linear.bias.data
    x = torch.randn(2, 32, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_a_zero_expansion_with_a_large_bias_is_the_identity():
    module, x = MSSAR(8, ratio=2), torch.randn(2, 8, 8, 8)
    nn.init.zeros_(module.expand.weight)
    nn.init.constant_(module.expand.bias, 100.0)
    assert torch.equal(module(x), x)


@pytest.mark.parametrize("weights", ["shared", "per-cell"])
@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_at_initialisation_it_can_be_exactly_the_identity(weights, upsample, symmetric):
    x = torch.randn(2, 8, 7, 8)
    module = MSSAR(8, ratio=2, weights=weights, upsample=upsample, identity_init=True, symmetric=symmetric)
    assert torch.equal(module(x), x)
    module(x).sum().backward()
    assert module.expand.weight.grad.abs().sum() > 0  # and it can leave it


def test_what_starts_as_the_identity_goes_on_by_the_definition():
    torch.manual_seed(0)
    module, x = MSSAR(6, ratio=2, identity_init=True), torch.randn(2, 6, 8, 8)
    nn.init.normal_(module.expand.weight)
    torch.testing.assert_close(module(x), by_definition(module, x))
    assert not torch.allclose(module(x), x, atol=1e-2)


def test_bilinear_weights_are_those_of_the_cells_at_their_centres():
    torch.manual_seed(0)
    module, x = MSSAR(4, (1, 2), ratio=1, upsample="bilinear"), torch.randn(1, 4, 6, 6)
    gate = module.weigh(x)
    torch.testing.assert_close(module(x)[..., 1, 1] / x[..., 1, 1], gate[:, 0, 0])
    torch.testing.assert_close(module(x)[..., 4, 1] / x[..., 4, 1], gate[:, 1, 0])


@pytest.mark.parametrize("size", [(7, 7), (8, 6), (2, 2), (3, 9), (1, 5)])
def test_bilinear_weights_of_uneven_cells_are_interpolated_between_their_centres(size):
    """Of cells that hold positions only, one axis after the other."""
    torch.manual_seed(0)
    module, x = MSSAR(6, ratio=0.5, upsample="bilinear"), torch.randn(2, 6, *size)
    gate = module.weigh(x).detach().double().numpy()
    for axis, n in ((1, size[0]), (2, size[1])):
        edges = np.array([j * n // 4 for j in range(5)])
        held = [j for j in range(4) if edges[j] < edges[j + 1]]
        centres = (edges[:-1] + edges[1:])[held] / 2
        between = partial(np.interp, np.arange(n) + 0.5, centres)
        gate = np.apply_along_axis(between, axis, gate.take(held, axis))
    expected = x * torch.from_numpy(gate).float().permute(0, 3, 1, 2)
    torch.testing.assert_close(module(x), expected)


def test_it_has_no_more_weights_than_squeeze_and_excitation():
    for channels in (64, 256, 2048):
        ours, se = (sum(p.numel() for p in m(channels).parameters()) for m in (MSSAR, SE))
        assert ours <= se


def test_surroundings_matter_beyond_the_neuron():
    torch.manual_seed(0)
    module, x = MSSAR(4, (1, 2), ratio=0.1), torch.randn(1, 4, 8, 8)
    near, far = x.clone(), x.clone()
    near[..., 1, 1] += 5  # in the same cell as (0, 0)
    far[..., 7, 7] += 5
    changes = [(module(changed) - module(x))[0, :, 0, 0].abs().sum() for changed in (near, far)]
    assert changes[0] > 0
    assert changes[1] > 0
    only_cell = MSSAR(4, (2,), ratio=0.1)
    assert torch.equal(only_cell(far)[..., 0, 0], only_cell(x)[..., 0, 0])


def test_half_precision_compile_and_export():
    torch.manual_seed(0)
    module, x = MSSAR(8, ratio=2).eval(), torch.randn(1, 8, 8, 8)
    assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    module.float()
    exported = torch.export.export(module, (x,))
    torch.testing.assert_close(exported.module()(x), module(x))
    traced = torch.jit.trace(module, x)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    torch.testing.assert_close(torch.compile(module, backend="aot_eager")(x), module(x))


@pytest.mark.parametrize("weights", ["shared", "per-cell"])
@pytest.mark.parametrize("shape", [(8, 8), (7, 5)])
def test_the_symmetric_form_gives_all_positions_the_sigmoid_of_their_mean_score(weights, shape):
    torch.manual_seed(0)
    plain, x = MSSAR(6, ratio=0.5, weights=weights), torch.randn(2, 6, *shape)
    symmetric = MSSAR(6, ratio=0.5, weights=weights, symmetric=True)
    symmetric.load_state_dict(plain.state_dict())
    each = torch.logit((by_definition(plain, x) / x).double())  # the score of every neuron
    expected = x * torch.sigmoid(each.mean((2, 3), keepdim=True)).float()
    torch.testing.assert_close(symmetric(x), expected, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(plain(x), expected, atol=1e-3)


def test_with_one_scale_the_symmetric_form_is_the_same():
    torch.manual_seed(0)
    se, symmetric, x = SE(8, ratio=2), SE(8, ratio=2, symmetric=True), torch.randn(2, 8, 7, 5)
    symmetric.load_state_dict(se.state_dict())
    torch.testing.assert_close(symmetric(x), se(x))


def test_gates_are_kept_on_request():
    module, x = MSSAR(8, ratio=2), torch.randn(2, 8, 8, 8)
    module(x)
    assert module.gate.numel() == 0
    module.keep_gate = True
    module(x)
    assert module.gate.shape == (2, 4, 4, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (1, 1)}, "different"),
        ({"scales": (2, 3)}, "divide"),
        ({"weights": "own"}, "weights"),
        ({"upsample": "cubic"}, "upsample"),
        ({"ratio": 0}, "ratio"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MSSAR(8, **options)
