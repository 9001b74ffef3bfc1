"""Networks by name: `timm/…`, `torchvision/…`, `cifar/…`."""

from whatwhere.models.cifar import CifarResNet, CifarVGG
from whatwhere.models.load import load_model

__all__ = ["CifarResNet", "CifarVGG", "load_model"]
