"""The control at equal parameters, by counting."""

import pytest

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.use.studies.wider import check_wider, equal_width, widened


def count(net):
    return sum(p.numel() for p in net.module.parameters())


@pytest.mark.parametrize("model", ["cifar/bagnet4", "cifar/resnet20"])
def test_wider_has_the_least_width_with_the_parameters_of_ms_sar(model):
    gated = count(ww.use.recalibrate(ww.load_model(model, classes=10, width=0.5), "ms_sar"))
    width = equal_width(model, 10, 0.5)
    just_less = width - 0.5 / 256
    assert count(ww.load_model(model, classes=10, width=just_less)) < gated
    assert gated <= count(ww.load_model(model, classes=10, width=width)) < 1.15 * gated


def test_widths_are_in_steps_of_the_width_itself():
    for width in (0.5, 0.25):
        steps = 256 * (equal_width("cifar/resnet20", 10, width) / width - 1)
        assert steps == pytest.approx(round(steps))
        assert 0 < steps < 256


def test_the_rest_of_a_study_stays_as_it_is():
    shared = {"model": "cifar/resnet20", "options": {"classes": 10, "width": 0.5}, "recipe": {"lr": 1}}
    width = equal_width("cifar/resnet20", 10, 0.5)
    assert widened(shared) == {**shared, "options": {"classes": 10, "width": width}}
    assert shared["options"]["width"] == 0.5


def test_a_network_without_a_width_is_refused():
    check_wider("cifar/densenet40")
    with pytest.raises(InputError, match="torchvision/vgg16 has none"):
        check_wider("torchvision/vgg16")
