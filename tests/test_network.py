import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.network import Network, Preprocessing, as_module, check_finite, grey, running


def test_normalise_by_loops() -> None:
    p = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    kept = images.clone()
    x = p.normalise(images)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    for i in range(2):
        for c in range(3):
            for h in range(4):
                for w in range(5):
                    expected = (int(images[i, c, h, w]) / 255 - p.mean[c]) / p.std[c]
                    assert math.isclose(float(x[i, c, h, w]), expected, abs_tol=2e-6)
    assert torch.equal(images, kept)


def test_one_mean_serves_all_channels() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    assert Preprocessing().normalise(images).flatten().tolist() == [-1.0, 1.0]


def test_colours_in_the_other_order() -> None:
    """Mean and deviation are in the order of the network, as its authors say them."""
    p = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), order="BGR")
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    x = p.normalise(images)
    assert x.is_contiguous(memory_format=torch.channels_last)
    for c in range(3):
        expected = (images[:, 2 - c].double() / 255 - p.mean[c]) / p.std[c]
        assert torch.allclose(x[:, c].double(), expected, atol=2e-6)
    floats = torch.randn(2, 3, 4, 4)
    assert torch.equal(p.normalise(floats), floats)  # prepared already
    assert p.to_dict()["order"] == "BGR"
    assert Preprocessing(**p.to_dict()) == p
    assert "order" not in Preprocessing().to_dict()
    with pytest.raises(InputError, match="order='GBR' must be 'RGB' or 'BGR'"):
        Preprocessing(order="GBR")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="order='BGR' is of pictures of 3 channels, and these have 1; leave it out"):
        Preprocessing(order="BGR").normalise(images[:, :1])


def test_prepared_pictures_pass() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(Preprocessing(mean=(0.9,)).normalise(x), x)
    assert Preprocessing().normalise(x.half()).dtype == torch.float32


def test_a_wrong_number_of_means_is_explained() -> None:
    with pytest.raises(InputError, match="3 channel means, the pictures have 1 channels"):
        Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)).normalise(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_to_dict_is_plain() -> None:
    plain = Preprocessing(size=(3, 4)).to_dict()
    assert json.loads(json.dumps(plain))["size"] == [3, 4]
    assert Preprocessing(**plain) == Preprocessing(size=(3, 4))


def test_as_module() -> None:
    conv = nn.Conv2d(1, 1, 1)
    assert as_module(conv) is conv
    assert as_module(Network(conv)) is conv
    with pytest.raises(InputError, match="not str"):
        as_module("resnet18")  # type: ignore[arg-type]


def test_unknown_names_the_argument_the_choices_and_the_nearest() -> None:
    error = unknown("mode", "perchannel", ["per-channel", "shared"])
    assert str(error) == (
        "mode='perchannel' matches nothing. Did you mean 'per-channel'? Choices: per-channel, shared."
    )
    assert isinstance(error, ValueError)
    many = str(unknown("x", "zzz", [f"name{i}" for i in range(40)]))
    assert "name11, … (40 in all)" in many
    assert "name12" not in many
    assert "Did you mean" not in many
    assert "(none)" in str(unknown("x", "y", []))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mean": (123.7, 116.3, 103.5), "std": (0.2,) * 3},
            r"mean=\(123.7, .* divide by 255: \(0.4851, 0.4561, 0.4059",
        ),
        ({"mean": (0.5,) * 3, "std": (58.4, 57.1, 57.4)}, r"std=\(58.4, .* divide by 255: \(0.229"),
        ({"mean": (-0.1,)}, r"mean=\(-0.1,\) must lie in 0..1, as of pictures scaled"),
        ({"std": (0.0,)}, r"std=\(0.0,\) must be above 0, and at most 1"),
        ({"std": (-0.2,)}, r"std=\(-0.2,\) must be above 0"),
        ({"mean": (0.5,) * 3, "std": (0.5,)}, "3 means and 1 standard deviations; give as many of both"),
        ({"mean": (float("nan"),)}, r"mean=\(nan,\): give a number for each channel"),
        ({"std": (float("inf"),)}, r"std=\(inf,\): give a number"),
        ({"mean": 0.5}, "mean=0.5: give a number for each channel"),
        ({"mean": ()}, r"mean=\(\): give a number"),
        ({"mean": ("0.5",)}, r"mean=\('0.5',\): give a number"),
        ({"size": 224}, r"size=224 must be \(height, width\)"),
        ({"size": (224,)}, r"size=\(224,\) must be \(height, width\)"),
        ({"size": (0, 8)}, r"size=\(0, 8\) must be \(height, width\), both at least 1"),
        ({"size": (2.5, 8)}, r"size=\(2.5, 8\) must be"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(settings, message):
    with pytest.raises(InputError, match=f"preprocessing.*{message}"):
        Preprocessing(**settings)


def test_pictures_may_keep_their_bytes_scale():
    """For networks that take 0..255, some with a mean subtracted."""
    p = Preprocessing(mean=(0.485, 0, 1), std=(1 / 255, 1 / 255, 1 / 255), size=[8, 8])
    assert p.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist() == pytest.approx(
        [255 * 0.515, 255, 0], abs=1e-3
    )


def test_what_is_no_network_is_refused_where_it_is_made() -> None:
    with pytest.raises(InputError, match=r"module=5: a Network is made of a torch.nn.Module, not of a int"):
        Network(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"preprocessing='imagenet': give a whatwhere.Preprocessing"):
        Network(nn.ReLU(), "imagenet")  # type: ignore[arg-type]
    for size in ((3, 0, 8), (8, 8), (3, 8.5, 8)):
        with pytest.raises(InputError, match=r"input_size=.*give .channels, height, width."):
            Network(nn.ReLU(), input_size=size)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_scripted_and_lazy_modules_are_refused_by_name() -> None:
    conv = nn.Conv2d(3, 4, 3)
    made = [torch.jit.script(conv), torch.jit.trace(conv, torch.zeros(1, 3, 8, 8))]
    for scripted in made:
        with pytest.raises(InputError, match=r"net is TorchScript .torch.jit."):
            as_module(scripted)
        with pytest.raises(InputError, match=r"net\.1 is TorchScript"):
            as_module(nn.Sequential(conv, scripted))
    with pytest.raises(InputError, match=r"net\.0\.weight has no size yet.*run the network once"):
        as_module(nn.Sequential(nn.LazyConv2d(4, 3)))


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    check_finite(net)
    with torch.no_grad():
        net[0].weight.fill_(3e38)  # the sum overflows, the weights do not
        check_finite(net)
        net[0].weight[0, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match=r"net: 0\.weight holds infinity in 1 of its 108 values"):
        check_finite(net)
    with torch.no_grad():
        net[0].weight.zero_()
    net[1].running_var[2] = torch.nan
    with pytest.raises(InputError, match=r"net: 1\.running_var holds NaN in 1 of its 4 values"):
        check_finite(Network(net))


def test_infinity_in_a_mask_is_meant() -> None:
    net = nn.Sequential(nn.Linear(3, 3))
    net.register_buffer("attn_mask", torch.full((3, 3), -torch.inf))
    check_finite(net)
    net.attn_mask[0, 0] = torch.nan
    with pytest.raises(InputError, match="attn_mask holds NaN"):
        check_finite(net)


def test_pictures_follow_the_channels_of_the_network() -> None:
    def channels(net: nn.Module, size: tuple[int, int, int] | None = None) -> int | None:
        return Network(net, input_size=size).preprocessing.channels

    assert channels(nn.Sequential(nn.Conv2d(1, 2, 3))) == 1
    assert channels(nn.Sequential(nn.Conv2d(4, 2, 3))) == 4
    assert channels(nn.Sequential(nn.Conv2d(3, 2, 3))) is None
    assert channels(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2)) == 1

    class Reversed(nn.Module):  # its stem is defined last
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.stem = nn.Conv2d(1, 1, 1), nn.Conv2d(3, 1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gate(self.stem(x))

    assert channels(Reversed()) is None
    assert "channels" not in Preprocessing().to_dict()
    assert Preprocessing(**Preprocessing(channels=1).to_dict()) == Preprocessing(channels=1)


def test_grey_is_pillows() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    for image, found in zip(images, grey(images), strict=True):
        expected = np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert (found[0].numpy() == expected).all()
    same = images[:, :1].expand(2, 3, 16, 16)
    assert torch.equal(grey(same), images[:, :1])


def test_bytes_of_other_channels_become_grey_or_are_refused() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    prep = Preprocessing(channels=1)
    assert torch.equal(prep.normalise(images), Preprocessing().normalise(grey(images)))
    with pytest.raises(InputError, match="takes pictures of 4 channels, and these have 3; give pictures of 4"):
        Preprocessing(channels=4).normalise(images)


def test_a_pass_that_fails_says_what_the_network_takes() -> None:
    net = nn.Conv2d(1, 2, 3)
    with (
        pytest.raises(InputError, match=r"shape \(3, 8, 8\).*takes 1 channels.*input_size=\(1, 8, 8\)"),
        running(net, (3, 8, 8)),
    ):
        net(torch.zeros(1, 3, 8, 8))
    with pytest.raises(torch.OutOfMemoryError), running(net, (1, 8, 8)):
        raise torch.OutOfMemoryError
