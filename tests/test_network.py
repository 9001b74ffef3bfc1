import json
import math

import pytest
import torch
from torch import nn

from whatwhere.errors import InputError, unknown
from whatwhere.network import Network, Preprocessing, as_module


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
