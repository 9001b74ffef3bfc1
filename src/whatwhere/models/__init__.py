"""Networks by name: `timm/…`, `torchvision/…`, `cifar/…`."""

from whatwhere.models.load import load_model

__all__ = ["load_model"]
