"""How much *where* does it need? Destroy spatial information at chosen depths (Fan et al. 2020)."""

import lazy_loader

COMMANDS = {
    "curve": "whatwhere.need.studies.curve:Curve",
    "patches": "whatwhere.need.studies.patches:Patches",
    "trained": "whatwhere.need.studies.trained:Trained",
    "collapse": "whatwhere.need.commands:collapse",
    "pointwise": "whatwhere.need.commands:pointwise",
    "truncate": "whatwhere.need.commands:truncate",
    "recover": "whatwhere.need.studies.recover:Recover",
    "demo": "whatwhere.need.studies.demo:Demo",
}

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
