"""Can it *say* what is where? Semantic concepts in place of channels (Losch et al. 2019-21)."""

import lazy_loader

COMMANDS = {
    "demo": "whatwhere.say.studies.demo:Demo",
    "train": "whatwhere.say.commands:train",
    "compare": "whatwhere.say.studies.compare:Compare",
    "explain": "whatwhere.say.commands:explain",
    "intervene": "whatwhere.say.commands:intervene",
}

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
