"""Can it use *where* better? Recalibrate features from their surrounding regions (Wang et al. 2018)."""

import lazy_loader

COMMANDS = {
    "compare": "whatwhere.use.studies.compare:Compare",
    "joint": "whatwhere.use.studies.joint:Joint",
    "cost": "whatwhere.use.studies.cost:Cost",
}

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
