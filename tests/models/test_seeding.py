import pytest

from whatwhere.errors import InputError
from whatwhere.models.cifar import CIFAR_MODELS
from whatwhere.models.load import load_model


@pytest.mark.parametrize("model", [*(f"cifar/{n}" for n in CIFAR_MODELS if "dense" not in n), "pspnet/resnet18"])
def test_a_width_that_no_memory_holds_is_refused_before_anything_is_drawn(model: str) -> None:
    with pytest.raises(InputError, match=r"width=20000: the network's weights would take [\d,]+ GiB, and .* are free"):
        load_model(model, classes=10, width=20000.0)
