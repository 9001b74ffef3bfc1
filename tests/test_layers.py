import torch
from torch import nn

from whatwhere.layers import map_in, with_map


def test_the_map_is_found_however_a_module_is_called() -> None:
    maps, tokens, mask, new = torch.zeros(1, 2, 3, 4), torch.zeros(1, 5, 2), torch.zeros(1, 5), torch.ones(1)
    assert map_in((maps,), {}) is maps
    assert map_in((None, mask), {"x": maps, "y": tokens}) is maps
    assert map_in((), {"mask": mask, "hidden_states": tokens}) is tokens
    assert map_in((mask, [maps]), {}) is None
    args, options = with_map((None, mask), {"x": maps, "scale": 2}, new)
    assert args == (None, mask)
    assert options == {"x": new, "scale": 2}
    args, options = with_map((maps, mask), {"mask": None}, new)
    assert args[0] is new
    assert args[1] is mask
    assert options == {"mask": None}


def test_a_map_given_twice_is_changed_twice() -> None:
    maps, new = torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    args, options = with_map((maps,), {"query": maps}, new)
    assert args[0] is options["query"] is new
    assert isinstance(nn.Identity()(args[0]), torch.Tensor)
