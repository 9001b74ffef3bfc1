"""Torchvision's detectors as networks: the same boxes and losses, sites, cuts, and what is refused."""

import pytest
import torch
from torch import nn

from small_detector import KINDS, of_torchvision, random_pictures, trained
from whatwhere.data.boxes import Objects
from whatwhere.errors import InputError
from whatwhere.models.detectors import Detector, detector, from_torchvision, is_detector
from whatwhere.models.load import load_model
from whatwhere.need.averaging import pool
from whatwhere.need.cuts import cuts_of
from whatwhere.need.shuffling import shuffle
from whatwhere.site import evaluating
from whatwhere.site_table import list_sites


def given(module: nn.Module) -> nn.Module:
    """Torchvision's own model, whose forward shares nothing with ours but the layers."""
    assert isinstance(module, Detector)
    return module.given


@pytest.mark.parametrize("name", KINDS)
def test_boxes_are_those_of_torchvisions_own_forward_with_classes_from_zero(name: str) -> None:
    net, pictures = of_torchvision(name), random_pictures(2, 50, 70)
    with evaluating(net.module):
        ours, theirs = net.module(pictures), given(net.module)(list(pictures))
    for found, expected in zip(ours, theirs, strict=True):
        kept = expected["labels"] >= 1  # RetinaNet and FCOS have scores of a class that torchvision leaves out
        assert bool(kept.any())
        assert torch.equal(found["labels"] + 1, expected["labels"][kept])
        for key in ("boxes", "scores"):
            assert torch.equal(found[key], expected[key][kept])


def test_losses_are_torchvisions_without_objects_that_are_difficult() -> None:
    net, pictures = of_torchvision(KINDS[1]), random_pictures(2, 64, 64)
    boxes = torch.tensor([[4.0, 4, 40, 44], [1, 30, 30, 60]])
    objects = [Objects.of(boxes, [0, 2], [False, True]), Objects.of([], [])]
    targets = [{"boxes": boxes[:1], "labels": torch.tensor([1])}, {"boxes": boxes[:0], "labels": torch.zeros(0).long()}]
    model = given(net.module)
    try:
        net.module.train()
        ours = net.module(pictures).losses(objects)
        theirs = model(list(pictures), targets)
    finally:
        net.module.eval()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        (KINDS[0], "backbone.body.layer2.1"),
        (KINDS[2], "backbone.features.0.12"),
    ],
)
def test_cuts_are_the_places_before_the_maps_part(name: str, last: str) -> None:
    """Behind that place a second map leaves the backbone, and goes round whatever is done to the first."""
    table = list_sites(of_torchvision(name), input_size=(3, 50, 70))
    assert cuts_of(table)[-1].name == last


def test_heads_that_run_on_several_levels_are_sites_call_by_call_and_can_be_shuffled_alone() -> None:
    net, pictures = of_torchvision(KINDS[0]), random_pictures(1, 50, 70)
    table = list_sites(net, input_size=(3, 50, 70))
    calls = [s for s in table if s.module == "head.classification_head.cls_logits"]
    assert [s.name.rpartition("#")[2] for s in calls] == ["1", "2", "3", "4"]  # the fifth level has one position
    with shuffle(net, calls[1], table=table) as acts, evaluating(net.module):
        net.module(pictures)
    assert dict(acts.ran) == {calls[1].name: 1}
    with pool(net, "backbone.fpn*", table=table) as acts, evaluating(net.module):
        net.module(pictures)
    assert set(acts.ran.values()) == {1}


def test_untouched_when_the_block_ends() -> None:
    net, pictures = of_torchvision(KINDS[3]), random_pictures(1, 50, 70)
    with evaluating(net.module):
        before = net.module(pictures)[0]
        with shuffle(net, "backbone.body.13.block.1.0", table=list_sites(net, input_size=(3, 50, 70))):
            during = net.module(pictures)[0]
        after = net.module(pictures)[0]
    assert not torch.equal(before["boxes"], during["boxes"])
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_pictures_are_resized_and_normalised_once() -> None:
    """Bytes of one value reach the backbone as (v / 255 - mean) / std, at the detector's size, padded to 32."""
    net = of_torchvision(KINDS[0])
    module, seen = net.module, []
    handle = module.get_submodule("backbone").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with evaluating(module):
        module(net.prepared(torch.full((1, 3, 50, 70), 100, dtype=torch.uint8)))
    handle.remove()
    assert seen[0].shape[2:] == (64, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0][0, :, 5, 5], (100 / 255 - mean) / std, atol=1e-5)


def test_a_layer_that_surgery_puts_in_is_trained_and_used() -> None:
    module = load_model("ssd/small", width=0.25).module
    assert isinstance(module, Detector)
    module.backbone = nn.Sequential(nn.Conv2d(3, 16, 8, stride=8))
    objects = [Objects.of([[4, 4, 40, 44]], [0])]
    sum(module.train()(random_pictures(1, 64, 64)).losses(objects).values()).backward()
    assert module.backbone[0].weight.grad is not None


def test_by_name_and_by_what_is_refused() -> None:
    net = load_model("torchvision/ssdlite320_mobilenet_v3_large", classes=3)
    logits = net.module.get_submodule("head.classification_head.module_list.0.1")
    assert logits.out_channels % (3 + 1) == 0  # and the background
    assert net.input_size == (3, 320, 320)
    assert net.preprocessing.size is None
    with pytest.raises(InputError, match="know 90 classes, not classes=3"):
        from_torchvision("ssdlite320_mobilenet_v3_large", pretrained=True, classes=3, seed=0)
    with pytest.raises(InputError, match="torchvision/retinanet_resnet50_fpn"):
        from_torchvision("retinanet_resnet50_fpm", pretrained=False, classes=3, seed=0)
    with pytest.raises(InputError, match="model is a Linear; a detector is one of torchvision's"):
        detector(nn.Linear(1, 1))
    assert not is_detector(trained().module.get_submodule("backbone"))
