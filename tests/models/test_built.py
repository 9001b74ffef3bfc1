"""Networks by name say how they were made, and can be made with the layers of the library's weights, without these."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from whatwhere.data.pixels import check_geometry
from whatwhere.fingerprints import architecture
from whatwhere.models.built import _torchvision_preprocessing, build, is_of_a_library
from whatwhere.network import Base


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar/vgg11", {"classes": 3, "width": 0.0625, "seed": 2}),
        ("timm/test_resnet", {"seed": 1}),
        ("torchvision/squeezenet1_1", {"classes": 3}),
        ("pspnet/resnet18", {"classes": 3, "width": 0.25}),
    ],
)
def test_a_network_says_how_it_was_made(name: str, options: dict[str, Any]) -> None:
    net = build(name, **options)
    assert net.base == Base(name, **options)
    again = build(net.base.name, classes=net.base.classes, width=net.base.width, seed=net.base.seed)
    assert all(torch.equal(v, again.module.state_dict()[k]) for k, v in net.module.state_dict().items())


def test_names_of_libraries() -> None:
    assert all(map(is_of_a_library, ("timm/resnet18", "cifar/x", "smp/unet/resnet18")))
    assert not any(map(is_of_a_library, ("timm", "small", "./timm/resnet18", "mine/net", "my_nets:make")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "fcn_resnet50", "lraspp_mobilenet_v3_large", "resnet18"])
def test_the_layers_of_torchvisions_weights_without_these(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of torchvision's networks have other heads, or another first step, where its weights are asked for."""
    without = build(f"torchvision/{name}", layers_of_pretrained=True)
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: {})
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
    pretrained = build(f"torchvision/{name}", pretrained=True)
    assert architecture(pretrained.module) == architecture(without.module)
    shapes = ({k: v.shape for k, v in n.module.state_dict().items()} for n in (pretrained, without))
    assert next(shapes) == next(shapes)
    flags = ({k: v for k, v in vars(n.module).items() if isinstance(v, bool)} for n in (pretrained, without))
    assert next(flags) == next(flags)


def test_the_size_of_a_vision_transformers_weights() -> None:
    """The largest one's are for 518 pixels; without weights it would be made for 224."""
    with torch.device("meta"):
        assert build("torchvision/vit_h_14", layers_of_pretrained=True).module.image_size == 518
        assert build("torchvision/vit_h_14").module.image_size == 224


def test_every_torchvision_preset_can_be_carried_out() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    assert {"alexnet", "resnet50", "vit_h_14"} <= set(names)
    for name in names:
        known = torchvision.models.get_model_weights(name)
        for pretrained, weights in ((False, next(iter(known))), (True, known["DEFAULT"])):
            p, preset = _torchvision_preprocessing(name, pretrained), weights.transforms()
            assert p.size == (preset.crop_size[0], preset.crop_size[0])
            assert round(p.size[0] / p.crop_pct) == preset.resize_size[0] >= p.size[0]
            assert (p.interpolation, p.mean, p.std) == (
                preset.interpolation.value,
                tuple(preset.mean),
                tuple(preset.std),
            )
            check_geometry(p)  # or it raises
