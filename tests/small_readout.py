"""A read-out study of a second or two."""

from whatwhere.hold.studies.readout import Readout
from whatwhere.hold.studies.readout_result import ReadoutResult

FEW = {"pictures": 20, "test_pictures": 6, "targets": ["H", "G"], "kernels": [1], "size": 14}


def position(net, data, out=None, how=(), **options) -> ReadoutResult:
    return Readout(net, data, **options).run(out, quiet=True, **dict(how))
