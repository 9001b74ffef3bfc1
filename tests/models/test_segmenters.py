import sys

import pytest
import torch

from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.training.evaluate_scenes import evaluate_scenes
from whatwhere.training.objectives import score_maps


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvisions_segmentation_networks(name: str) -> None:
    net = load_model(f"torchvision/{name}", classes=4, seed=2)
    assert not net.module.training
    assert net.name == f"torchvision/{name}"
    assert net.preprocessing.size is None  # scenes stay whole
    with torch.no_grad():
        scores, auxiliary = score_maps(net.module(torch.zeros(1, 3, 32, 48)))
    assert scores.shape == (1, 4, 32, 48)
    assert auxiliary is None
    again = load_model(f"torchvision/{name}", classes=4, seed=2).module.state_dict()
    assert all(torch.equal(v, again[k]) for k, v in net.module.state_dict().items())


def test_a_name_loads_and_evaluates() -> None:
    scenes = drawn_streets(train=1, validation=1, test=2, size=(32, 48))
    net = load_model("torchvision/lraspp_mobilenet_v3_large", classes=len(scenes.classes))
    found = evaluate_scenes(net, scenes.test)
    assert found.confusions.shape == (2, len(scenes.classes), len(scenes.classes))
    assert 0 <= found.accuracy <= 1


def test_torchvisions_names_are_shown() -> None:
    with pytest.raises(
        InputError, match=r"'torchvision/deeplabv3_resnet5' matches nothing.* 'torchvision/deeplabv3_resnet50'"
    ):
        load_model("torchvision/deeplabv3_resnet5")
    with pytest.raises(InputError, match=r"width=0\.5 is for cifar/…, pspnet/… and ssd/…"):
        load_model("torchvision/lraspp_mobilenet_v3_large", width=0.5)
    with pytest.raises(
        InputError, match=r"its weights give 21 scores, not classes=4; leave one of pretrained and classes"
    ):
        load_model("torchvision/lraspp_mobilenet_v3_large", pretrained=True, classes=4)


def test_smp_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(InputError, match=r"smp/unet/resnet18 needs a package: pip install segmentation-models-pytorch"):
        load_model("smp/unet/resnet18", classes=3)


def test_smp_by_name() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    net = load_model("smp/unet/resnet18", classes=3)
    with torch.no_grad():
        assert net.module(torch.zeros(1, 3, 32, 64)).shape == (1, 3, 32, 64)
    with pytest.raises(InputError, match=r"'smp/unnet' matches nothing.* 'smp/unet/resnet18'"):
        load_model("smp/unnet")
    with pytest.raises(InputError, match=r"'smp/unet/resnet19' matches nothing"):
        load_model("smp/unet/resnet19")
