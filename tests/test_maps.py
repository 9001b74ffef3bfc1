"""Maps of every layout, and back."""

import pytest
import torch

from whatwhere.maps import as_maps, from_maps
from whatwhere.site import Site


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens+0", "tokens+2"])
def test_maps_and_back(layout: str) -> None:
    n, c, h, w = 2, 3, 4, 5
    maps = torch.arange(float(n * c * h * w)).view(n, c, h, w)
    prefix = int(layout[-1]) if layout.startswith("tokens") else 0
    site = Site("s", "s", 1, 0, "other", layout, (c, h, w), None, 1.0, 0)
    if layout == "NCHW":
        x = maps.clone()
    elif layout == "NHWC":
        x = torch.empty(n, h, w, c)
    else:
        x = torch.full((n, prefix + h * w, c), -1.0)
    if layout != "NCHW":
        for i in range(n):
            for a in range(h):
                for b in range(w):
                    for k in range(c):
                        if layout == "NHWC":
                            x[i, a, b, k] = maps[i, k, a, b]
                        else:
                            x[i, prefix + a * w + b, k] = maps[i, k, a, b]
    assert torch.equal(as_maps(x, site), maps)
    assert torch.equal(from_maps(as_maps(x, site), x, site), x)
    changed = from_maps(maps + 1, x, site)
    assert torch.equal(as_maps(changed, site), maps + 1)
    if prefix:
        assert (changed[:, :prefix] == -1).all()


@pytest.mark.parametrize(
    ("layout", "shape", "last"),
    [
        ("NCHW", (2, 3, 4, 5), (1, 2, 3, 4)),
        ("NHWC", (2, 4, 5, 3), (1, 3, 4, 2)),
        ("tokens+1", (2, 21, 3), (1, 20, 2)),
    ],
)
def test_maps_are_a_view_of_what_they_were(layout: str, shape: tuple[int, ...], last: tuple[int, ...]) -> None:
    site = Site("s", "s", 1, 0, "other", layout, (3, 4, 5), None, 1.0, 0)
    x = torch.zeros(shape)
    as_maps(x, site)[1, 2, 3, 4] = 7.0
    assert x[last] == x.sum() == 7.0
