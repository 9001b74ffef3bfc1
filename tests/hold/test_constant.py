import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from small_tokens import transformer
from whatwhere.errors import InputError
from whatwhere.hold.constant import constant_pattern

SIZE = (3, 6, 6)


def convolution(padding: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU())


def test_it_is_what_a_loop_over_positions_finds() -> None:
    net, colours = convolution(1), [(0.0, 0.2, 1.0), (0.6, 0.4, 0.0)]
    (found,) = constant_pattern(net, sites="0", colours=colours, input_size=SIZE)
    features = np.zeros((2, 4, 6, 6))
    conv = net[0]
    assert isinstance(conv, nn.Conv2d)
    weight, bias = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()  # type: ignore[union-attr]
    normal = ww.Preprocessing()
    for n, colour in enumerate(colours):
        value = [(round(255 * v) / 255 - normal.mean[0]) / normal.std[0] for v in colour]
        for i in range(6):
            for j in range(6):
                inside = [(a, b) for a in range(3) for b in range(3) if 0 <= i + a - 1 < 6 and 0 <= j + b - 1 < 6]
                for c in range(4):
                    features[n, c, i, j] = bias[c] + sum(
                        weight[c, k, a, b] * value[k] for a, b in inside for k in range(3)
                    )
    varied = features - features.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(found.pattern, varied.mean(0), atol=1e-6)
    assert found.share == pytest.approx((varied**2).sum() / (features**2).sum(), rel=1e-5)
    assert found.common == pytest.approx(2 * (varied.mean(0) ** 2).sum() / (varied**2).sum(), rel=1e-5)
    assert (found.site, found.n) == ("0", 2)
    assert len(repr(found)) < 90


def test_without_padding_all_positions_are_alike() -> None:
    (found,) = constant_pattern(convolution(0), sites="0", input_size=SIZE)
    assert (found.share, found.common, found.n) == (0.0, 0.0, 9)
    assert not found.pattern.any()


@pytest.mark.parametrize(("channels", "count"), [(1, 3), (3, 9), (12, 15)])
def test_networks_of_many_channels_see_each_alone(channels: int, count: int) -> None:
    net = ww.Network(nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1)), input_size=(channels, 6, 6))
    (found,) = constant_pattern(net, sites="0")
    assert found.n == count
    assert 0 < found.share < 1


def test_a_transformer_marks_by_its_embedding_alone() -> None:
    net = transformer("vit")
    marked = constant_pattern(net, sites="blocks.*")
    assert [at.site for at in marked][-1] == "blocks.1"
    assert min(at.share for at in marked) > 1e-3  # where nothing marks positions it is 0 exactly, below
    with ww.need.embedding(net, "mean"):
        assert all(at.share == 0 for at in constant_pattern(net, sites="blocks.*"))
    assert all(at.share == 0 for at in constant_pattern(transformer("none"), sites="blocks.*"))


@pytest.mark.parametrize("colours", [[], [(0.1, 0.2)], [(0.0, 0.0, 255.0)]])
def test_colours_that_are_none(colours: list[tuple[float, ...]]) -> None:
    with pytest.raises(InputError, match="each 3 values from 0 to 1"):
        constant_pattern(convolution(1), sites="0", colours=colours, input_size=SIZE)
