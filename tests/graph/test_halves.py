"""A network in two: what lies before a place is found by changing it, and both halves do what the whole does."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.graph.halves import Halves
from whatwhere.site_table import list_sites

SIZE = (3, 16, 16)


class Standard(nn.Conv2d):
    """Its weights are made anew from others in each pass."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, w, self.bias, padding=1)


def plain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def mixed() -> nn.Module:
    first = [nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Dropout(0.3)]
    return plain(*first, nn.Conv2d(5, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.3))


def standard() -> nn.Module:
    return plain(Standard(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), Standard(5, 6, 3), nn.ReLU())


class Asking(nn.Module):
    """Asks whether it trains, in the middle of its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu().mean((2, 3))
        return self.head(functional.dropout(x, 0.5, self.training))


class Twice(nn.Module):
    """One batch norm before and after the place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.second(self.norm(self.first(x)))).mean((2, 3)))


def resnet() -> nn.Module:
    return ww.load_model("cifar/resnet20", classes=4, width=0.25).module


CASES = {
    "mixed": (mixed, "4"),
    "standard": (standard, "3"),
    "resnet": (resnet, "layers.2.1"),
    "asking": (Asking, "second"),
    "twice": (Twice, "second"),
}


def made(case: str) -> tuple[nn.Module, str]:
    make, site = CASES[case]
    torch.manual_seed(1)
    module = make()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            nn.init.uniform_(m.weight, 0.5, 2)
            nn.init.normal_(m.bias)
    return module.eval(), site


def halves(module: nn.Module, site: str) -> Halves:
    sites = list_sites(module, input_size=SIZE)
    return Halves(ww.Network(module, input_size=SIZE), next(s for s in sites if s.name == site))


def value_at(module: nn.Module, site: str, x: Tensor) -> Tensor:
    """By a hook, on the network's own forward."""
    seen: list[Tensor] = []
    handle = module.get_submodule(site).register_forward_pre_hook(lambda m, given: seen.append(given[0].clone()))
    with torch.no_grad():
        module(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("case", CASES)
def test_what_lies_before_is_what_changes_the_value_there(case):
    module, site = made(case)
    found, x = halves(module, site), torch.randn(3, *SIZE)
    value = value_at(module, site, x)
    assert torch.allclose(found.values(x), value, atol=1e-6)
    changing = []
    for name, p in module.named_parameters():
        kept = p.detach().clone()
        with torch.no_grad():
            p.add_(torch.randn_like(p))
        if not torch.equal(value_at(module, site, x), value):
            changing.append(name)
        with torch.no_grad():
            p.copy_(kept)
    assert set(found.before.parameters) == set(changing) != set()


@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize("case", ["mixed", "standard", "resnet"])
def test_the_halves_do_what_the_whole_does_and_learn_the_same(case, collapsed):
    module, site = made(case)
    sites = list_sites(module, input_size=SIZE)
    if collapsed:
        module = ww.need.collapse(module, site, input_size=SIZE)
    found = Halves(ww.Network(module, input_size=SIZE), next(s for s in sites if s.name == site))
    tail, x = found.tail(), torch.randn(5, *SIZE)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert tail is not None
    with torch.no_grad():
        assert torch.allclose(tail.eval()(found.values(x)), module(x), atol=1e-5)
    found.before.train(module)
    gradients = []
    for way in (lambda: module(x), lambda: tail(found.values(x))):
        module.load_state_dict(before)
        module.zero_grad()
        torch.manual_seed(2)
        with found.before.held(module):
            way().square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
        changed = [k for k, v in module.state_dict().items() if not torch.equal(v, before[k])]
        assert not set(changed) & {f"{m}.running_mean" for m in found.before.modules}
    whole, half = gradients
    assert whole.keys() == half.keys() == {n for n, _ in module.named_parameters()} - set(found.before.parameters)
    assert all(torch.allclose(whole[n], half[n], rtol=1e-4, atol=1e-4 * float(whole[n].abs().max())) for n in whole)


@pytest.mark.parametrize("case", ["asking", "twice"])
def test_there_is_no_tail_where_it_would_not_learn_the_same(case):
    module, site = made(case)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert halves(module, site).tail() is None
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(m.training for m in module.modules())


def test_a_layer_that_runs_on_both_sides_is_before():
    module, site = made("twice")
    found = halves(module, site).before
    assert set(found.modules) == {"first", "norm"}
    assert set(found.parameters) == {"first.weight", "first.bias", "norm.weight", "norm.bias"}


def test_a_container_is_before_if_all_that_runs_in_it_is():
    module, _ = made("resnet")
    found = halves(module, "layers.2.1").before.modules
    assert {"layers.0", "layers.1", "layers.2.0"} <= set(found)
    assert not {"layers", "layers.2", "layers.2.1"} & set(found)


def test_where_something_goes_round_nothing_lies_before():
    module, _ = made("resnet")
    with pytest.raises(InputError, match=r"site='layers\.1\.1\.conv2': something goes round it"):
        halves(module, "layers.1.1.conv2")
