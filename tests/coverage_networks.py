"""The networks of the coverage table, at small pictures; their weights are random, since none are at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

from small_nets import HAND, drawn
from whatwhere.graph.modular import modular
from whatwhere.models.load import load_model


@dataclass(frozen=True)
class Entry:
    """A network of the table.

    Attributes:
        name: as a user gives it.
        family: that it stands for.
        make: with random weights.
        side: of its pictures.
        is_cnn: whether no attention, token or patch mixer is in it.
    """

    name: str
    family: str
    make: Callable[[], nn.Module]
    side: int = 64
    is_cnn: bool = True

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture."""
        return (3, self.side, self.side)


def _wake(net: nn.Module) -> None:
    """Scales of branches that begin near zero, at 1e-6 say, get values at which the branches count."""
    generator = torch.Generator().manual_seed(2)
    for p in net.parameters():
        if p.ndim and float(p.detach().abs().max()) < 1e-2:
            p.data.normal_(std=0.3, generator=generator)


def settled(entry: Entry) -> nn.Module:
    """A network whose scores depend on its pictures: batch norms have the statistics of what comes to them."""
    net = drawn(entry.make)
    _wake(net)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    kept = [m.momentum for m in norms]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for m in norms:
            m.train().reset_running_stats()
            m.momentum = None  # the plain mean
        net(torch.randn(8, *entry.size))
        net(torch.randn(8, *entry.size))
    for m, momentum in zip(norms, kept, strict=True):
        m.momentum = momentum
    return net.eval()


def _timm(family: str, name: str, side: int = 64, is_cnn: bool = True, **options: Any) -> Entry:
    return Entry(f"timm/{name}", family, partial(timm.create_model, name, num_classes=10, **options), side, is_cnn)


def _tokens(family: str, name: str, side: int = 64, **options: Any) -> Entry:
    return _timm(family, name, side, False, img_size=side, **options)


def _torchvision(family: str, name: str, side: int = 64, is_cnn: bool = True, **options: Any) -> Entry:
    make = partial(torchvision.models.get_model, name, weights=None, num_classes=10, **options)
    return Entry(f"torchvision/{name}", family, make, side, is_cnn)


def _ours(family: str, name: str, width: float = 0.25, **options: Any) -> Entry:
    return Entry(f"cifar/{name}", family, lambda: load_model(f"cifar/{name}", classes=10, width=width).module, 32)


def _by_hand(name: str) -> Entry:
    return Entry(f"by hand: {name}", "by hand, functional", HAND[name], 32)


def _unet() -> nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=10)  # type: ignore[no-any-return]


def _functional() -> nn.Module:
    return modular(HAND["functional"](), input_size=(3, 32, 32))


LISTED = (
    _timm("resnet", "resnet18"),
    _timm("resnet", "resnet26d"),
    _torchvision("resnet", "resnet50"),
    _timm("resnetv2", "resnetv2_50"),
    _timm("resnext", "resnext50_32x4d"),
    _timm("resnest", "resnest14d"),
    _timm("ecaresnet", "ecaresnet26t"),
    _timm("seresnet", "seresnet18"),
    _timm("skresnet", "skresnet18", 96),
    _timm("res2net", "res2net50_26w_4s"),
    _timm("cspnet", "cspresnet50"),
    _timm("dpn", "dpn68"),
    _torchvision("vgg", "vgg11"),
    _torchvision("vgg", "vgg16_bn"),
    _torchvision("alexnet", "alexnet", 96),
    _torchvision("densenet", "densenet121"),
    _timm("dla", "dla34"),
    _timm("mobilenet v1", "mobilenetv1_100"),
    _torchvision("mobilenet v2", "mobilenet_v2"),
    _torchvision("mobilenet v3", "mobilenet_v3_small", 96),
    _timm("mobilenet v3", "mobilenetv3_large_100", 96),
    _timm("mobilenet v4", "mobilenetv4_conv_small", 96),
    _torchvision("mnasnet", "mnasnet0_5", 96),
    _torchvision("efficientnet", "efficientnet_b0", 96),
    _timm("efficientnet, tf", "tf_efficientnet_b0", 96),
    _timm("efficientnet, v2", "tf_efficientnetv2_b0"),
    _timm("efficientnet, lite", "tf_efficientnet_lite0", 96),
    _torchvision("regnet", "regnet_y_400mf"),
    _timm("regnet", "regnetx_002"),
    _torchvision("shufflenet", "shufflenet_v2_x0_5"),
    _torchvision("squeezenet", "squeezenet1_1"),
    _torchvision("googlenet", "googlenet", aux_logits=False, init_weights=False),
    _torchvision("inception", "inception_v3", 128, aux_logits=False, init_weights=False),
    _timm("inception", "inception_v4", 128),
    _timm("inception", "inception_resnet_v2", 128),
    _timm("xception", "xception41"),
    _timm("convnext", "convnext_atto", 128),
    _torchvision("convnext", "convnext_tiny", 128),
    _timm("convnext", "inception_next_atto", 192),
    _timm("convnextv2", "convnextv2_atto", 128),
    _timm("edgenext", "edgenext_xx_small", 128, False),
    _timm("convmixer", "convmixer_768_32"),
    _timm("poolformer", "poolformer_s12"),
    _timm("fastvit", "fastvit_t8", 128, False),
    _timm("mobilevit", "mobilevit_xxs", 64, False),
    _timm("mobilevit", "mobilevitv2_050", 64, False),
    _tokens("coatnet", "coatnet_pico_rw_224"),
    _tokens("maxvit", "maxvit_rmlp_pico_rw_256"),
    _timm("efficientformer", "efficientformer_l1", 224, False),
    _timm("pvt", "pvt_v2_b0", 64, False),
    _timm("hrnet", "hrnet_w18_small"),
    _timm("repvgg", "repvgg_a0"),
    _timm("repvgg", "mobileone_s0"),
    _timm("nf_resnet", "nf_resnet26"),
    _timm("nf_resnet", "nf_regnet_b0"),
    _timm("nf_resnet", "eca_nfnet_l0"),
    _timm("ghostnet", "ghostnet_100"),
    _timm("vovnet", "ese_vovnet19b_dw"),
    _timm("gernet", "gernet_s"),
    _timm("mixnet", "mixnet_s", 128),
    _timm("starnet", "starnet_s1", 128),
    _timm("selecsls", "selecsls42"),
    _tokens("vit", "vit_tiny_patch16_224"),
    _tokens("deit", "deit_tiny_distilled_patch16_224"),
    _torchvision("swin", "swin_t", 224, False),
    _tokens("swin", "swin_tiny_patch4_window7_224"),
    _tokens("mixer", "mixer_s32_224"),
    _tokens("mixer", "resmlp_12_224"),
    _tokens("cait", "cait_xxs24_224"),
    _timm("metaformer", "convformer_s18", 128),
    _ours("bagnet", "bagnet4", 0.5),
    _ours("CIFAR nets", "vgg16"),
    _ours("CIFAR nets", "resnet20"),
    _ours("CIFAR nets", "densenet22"),
    Entry("segmentation_models_pytorch Unet, resnet18", "U-Net", _unet),
    *map(_by_hand, [name for name in HAND if name != "functional"]),
    Entry("by hand: functional, ww.modular", "by hand, functional", _functional, 32),
)
NETWORKS = {entry.name: entry for entry in LISTED}
