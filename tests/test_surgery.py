import copy
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from whatwhere.errors import InputError
from whatwhere.network import Network, Preprocessing
from whatwhere.surgery import as_given, copied, describe, edit, modules_that_ran, put


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)))


def test_edits_a_copy_and_leaves_the_network_alone() -> None:
    net = small()
    state, ids = copy.deepcopy(net.state_dict()), [id(m) for m in net.modules()]
    new, done = edit(net, {"1.0": lambda m: nn.GELU()})
    assert [id(m) for m in net.modules()] == ids
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not {id(p) for p in new.parameters()} & {id(p) for p in net.parameters()}
    assert isinstance(new[1][0], nn.GELU)
    assert [str(r) for r in done] == ["1.0: ReLU() -> GELU(approximate='none')"]
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(new(x), new[1][1](nn.functional.gelu(net[0](x))))


def test_inner_modules_first_and_the_report_in_the_networks_order() -> None:
    seen = []

    def outer(m: nn.Module) -> nn.Module:
        seen.append(type(m[0]).__name__)  # type: ignore[index]
        return nn.Sequential(m)

    new, done = edit(small(), {"1": outer, "1.0": lambda m: nn.GELU(), "0": lambda m: nn.Conv2d(3, 4, 1)})
    assert seen == ["GELU"]
    assert [r.name for r in done] == ["0", "1", "1.0"]
    assert isinstance(new[1][0][0], nn.GELU)


def test_what_came_back_unchanged_is_not_counted_but_a_twin_is() -> None:
    _, done = edit(small(), {"0": lambda m: m, "1.1": lambda m: nn.Conv2d(4, 4, 1)})
    assert [r.name for r in done] == ["1.1"]


def test_an_edit_in_place_is_counted() -> None:
    def widen(m: nn.Module) -> nn.Module:
        m.padding = (1, 1)  # type: ignore[assignment]
        return m

    _, done = edit(small(), {"0": widen})
    assert "padding=(1, 1)" in done[0].after
    assert "padding" not in done[0].before


@pytest.mark.parametrize("edits", [{}, {"0": lambda m: m}])
def test_nothing_replaced_is_an_error(edits: dict[str, object]) -> None:
    with pytest.raises(InputError, match="replaced nothing"):
        edit(small(), edits)  # type: ignore[arg-type]


def test_put_by_dotted_name() -> None:
    net = small()
    put(net, "1.0", nn.Tanh())
    put(net, "0", nn.Identity())
    assert describe(net[0]) == "Identity()"
    assert describe(net.get_submodule("1.0")) == "Tanh()"


def test_as_given_keeps_the_preprocessing() -> None:
    given = Network(small(), Preprocessing(mean=(0.1,)), "old", (3, 8, 8))
    new = small()
    dressed = as_given(given, new, "new")
    assert isinstance(dressed, Network)
    assert (dressed.module, dressed.name, dressed.input_size) == (new, "new", (3, 8, 8))
    assert dressed.preprocessing is given.preprocessing
    assert given.name == "old"
    assert as_given(small(), new, "new") is new


def test_modules_that_ran_and_no_hooks_stay() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Sequential(nn.ReLU()), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            if x.numel() > 4:
                raise ZeroDivisionError
            return self.used(x)

    net = Half()
    assert modules_that_ran(net, torch.zeros(1, 4)) == {"", "used", "used.0"}
    with pytest.raises(ZeroDivisionError):
        modules_that_ran(net, torch.zeros(2, 4))
    assert not any(m._forward_hooks for m in net.modules())


def test_a_module_with_several_names_is_replaced_under_all_of_them() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(conv, nn.Sequential(conv, nn.ReLU()))
    module, replaced = edit(net, {"0": lambda m: nn.Conv2d(3, 3, 1)})
    assert module[0] is module[1][0]
    assert module[0].kernel_size == (1, 1)
    assert [r.name for r in replaced] == ["0"]
    assert net[0] is net[1][0] is conv


def test_what_torch_refuses_to_copy_is_copied() -> None:
    net = small()
    prune.l1_unstructured(net[0], "weight", 0.5)
    maps = net[0](torch.randn(1, 3, 5, 5))  # with a graph
    net.kept, net.results = {"maps": [maps]}, (maps, SimpleNamespace(last=maps))  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net)
    new = copied(net)
    assert torch.equal(new.kept["maps"][0], maps)
    assert new.kept["maps"][0] is not maps
    assert new.results[1].last is new.results[0] is new.kept["maps"][0]
    assert maps.requires_grad
    assert not {id(p) for p in new.parameters()} & {id(p) for p in net.parameters()}
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(new(x), net(x))


def test_what_cannot_be_copied_is_said() -> None:
    net = small()
    net.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"net cannot be copied.*lock"):
        edit(net, {"0": lambda m: nn.Identity()})
