import copy

import torch

from small_nets import HAND, SIZE, drawn
from whatwhere.graph.rewritten import rewritten
from whatwhere.graph.trace import trace


def test_a_copy_keeps_its_reports_its_mode_and_its_own_weights() -> None:
    net = drawn(HAND["averaged"])
    new = rewritten(net, trace(net, SIZE).graph)
    new.__dict__["surgery"] = "report"
    twin = copy.deepcopy(new.eval())
    assert twin.surgery == "report"
    assert not twin.training
    x = torch.randn(2, *SIZE)
    assert torch.equal(twin(x), net(x))
    assert twin.stem.weight.data_ptr() != new.stem.weight.data_ptr()  # type: ignore[union-attr]
    for again in (twin, copy.deepcopy(twin)):
        assert type(again).__name__ == type(new).__name__ == "Averaged"
        assert again.surgery == "report"
        assert repr(again) == repr(new)
