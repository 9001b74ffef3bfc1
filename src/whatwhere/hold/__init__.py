"""How much *where* do features hold? Absolute position read out of frozen features, and where it comes from."""

import lazy_loader

COMMANDS = {
    "readout": "whatwhere.hold.studies.readout:Readout",
    "without": "whatwhere.hold.studies.without:Without",
    "pattern": "whatwhere.hold.studies.pattern:Pattern",
    "red-green": "whatwhere.hold.studies.red_green:RedGreen",
    "location": "whatwhere.hold.studies.location:Location",
}

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
