"""Options that studies share."""

import pytest

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.lab.options import Learned, Measured, as_tuple, given_only


def test_a_recipe_is_adapted():
    how = Learned("m", "d", recipe="demo", epochs=7, lr=0.5, precision="bf16-mixed").how
    plain = ww.recipes["demo"]
    assert (how.epochs, how.lr, how.precision, how.batch_size) == (7, 0.5, "bf16-mixed", plain.batch_size)
    assert Learned("m", "d", recipe="fast", augment=False).how == ww.recipes["fast"].without_augmentation()
    own = ww.Recipe(epochs=3, milestones=(1, 2))
    assert Learned("m", "d", recipe=own).how == own
    assert Learned("m", "d", recipe=own, batch_size=4).how.milestones == (1, 2)


@pytest.mark.parametrize(("options", "message"), [({"recipe": "fats"}, "'fast'"), ({"epochs": 0}, "epochs=0")])
def test_a_recipe_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        _ = Learned("m", "d", **options).how


def test_a_module_cannot_be_trained_anew():
    with pytest.raises(InputError, match="model is a int; networks that are trained anew"):
        _ = Learned(3, "digits").how  # type: ignore[arg-type]


def test_the_classes_are_those_of_the_data():
    assert Measured("cifar/vgg11", "digits", width=0.07).network_source.net.module.training is False
    net = Measured("cifar/vgg11", "digits", width=0.07).network_source.net
    assert ww.evaluate(net, ww.load_data("digits").test.take(5)).n == 5
    assert '"classes": 10' in Measured("cifar/vgg11", "digits").network_source.options
    assert '"classes": 7' in Measured("cifar/vgg11", "digits", classes=7).network_source.options
    assert '"classes": null' in Measured("timm/resnet18", "digits", pretrained=True).network_source.options


def test_small_tools():
    assert given_only({"a": None, "b": 0}) == {"b": 0}
    assert as_tuple("H") == ("H",)
    assert as_tuple([3, 1, 3]) == (3, 1)
    assert as_tuple(3) == (3,)
