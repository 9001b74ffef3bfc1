import copy
import json
import threading
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.network import Network, Preprocessing
from whatwhere.surgery import (
    SURGERIES,
    as_given,
    copied,
    describe,
    edit,
    modules_that_ran,
    put,
    record,
    redone,
    surgeries,
)


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


# ---- records


SIZE = (3, 16, 16)


def colours() -> nn.Sequential:
    parts = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def test_every_surgery_that_can_be_redone_is_there() -> None:
    for where in SURGERIES.values():
        package, _, name = where.partition(":")
        assert callable(getattr(import_module(package), name))


def test_records_follow_each_other_in_order_and_through_copies() -> None:
    net = colours()
    padded = ww.hold.with_padding(net, "circular", input_size=SIZE)
    small = ww.need.collapse(padded, "2", input_size=SIZE)
    assert surgeries(net) == ()
    assert surgeries(padded) == (
        {"do": "hold.with_padding", "options": {"mode": "circular", "input_size": [3, 16, 16]}},
    )
    collapse = {"site": "2", "init": "kernel-sum", "seed": 0, "input_size": [3, 16, 16]}
    assert surgeries(small) == (*surgeries(padded), {"do": "need.collapse", "options": collapse})
    assert surgeries(copy.deepcopy(small)) == surgeries(copied(small)) == surgeries(small)
    assert surgeries(Network(small)) == surgeries(small)
    assert surgeries(ww.untrained(small, 0)) == surgeries(small)
    assert list(small.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias", "6.weight", "6.bias"]


def test_records_outlive_a_copy_of_a_graph_that_drops_plain_attributes() -> None:
    graph = torch.fx.symbolic_trace(colours())
    record(graph, colours(), "need.collapse", site="2")
    graph.__dict__["surgery"] = "a report"
    assert not surgeries(copy.deepcopy(graph))  # torch's doing
    again = copied(copied(graph))
    assert surgeries(again) == surgeries(graph)
    assert again.surgery == "a report"


class Own(nn.Module):
    """A recalibration that no record can name."""

    def __init__(self, channels: int, power: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_an_option_that_is_no_plain_value_is_named_in_the_record() -> None:
    net = ww.load_model("cifar/resnet20", classes=3, width=0.25)
    by_class, by_function = (ww.use.recalibrate(net, m) for m in (Own, lambda c: Own(c)))
    assert surgeries(by_class)[0]["objects"] == {"method": "type Own"}
    assert "lambda" in surgeries(by_function)[0]["objects"]["method"]
    assert "method" not in surgeries(by_class)[0]["options"]
    layer = type("Named", (ww.say.Bottleneck,), {})(4, 2)
    narrow = ww.say.bottleneck(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)), "0", layer, input_size=SIZE)
    assert surgeries(narrow)[0]["objects"] == {"concepts": "an object of type Named"}
    new, old = colours(), colours()
    record(new, old, "x", there=float("nan"), tensor=torch.ones(2), keys={1: 2}, fine={"a": (1, 2.5, None, "t")})
    assert surgeries(new)[0]["options"] == {"fine": {"a": [1, 2.5, None, "t"]}}
    assert set(surgeries(new)[0]["objects"]) == {"there", "tensor", "keys"}


RESNET, VGG = ("cifar/resnet20", {"classes": 3, "width": 0.25}), ("cifar/vgg11", {"classes": 3, "width": 1 / 16})
SEGMENTER = ("pspnet/resnet18", {"classes": 3, "width": 0.25})
OPERATIONS = {
    "collapse": (VGG, lambda n: ww.need.collapse(n, "last 38%")),
    "collapse, at a row": (VGG, lambda n: ww.need.collapse(n, -7)),
    "collapse, fresh": (RESNET, lambda n: ww.need.collapse(n, "layers.2.0", init="fresh", seed=3)),
    "collapse twice": (VGG, lambda n: ww.need.collapse(ww.need.collapse(n, "features.22"), "features.8")),
    "collapse at another size": (VGG, lambda n: ww.need.collapse(n, "features.8", input_size=(3, 64, 64))),
    "pointwise": (VGG, lambda n: ww.need.pointwise(n, "last 38%")),
    "pointwise after averages": (RESNET, lambda n: ww.need.pointwise(n, "layers.2.0", local="average")),
    "pointwise, fresh": (VGG, lambda n: ww.need.pointwise(n, "features.8", local="max", init="fresh", seed=3)),
    "pointwise, then collapse": (VGG, lambda n: ww.need.collapse(ww.need.pointwise(n, "features.8"), "features.18")),
    "truncate": (RESNET, lambda n: ww.need.truncate(n, "layers.2.0", classes=7, seed=2)),
    "pointwise, then truncate": (VGG, lambda n: ww.need.truncate(ww.need.pointwise(n, "features.8"), "features.18")),
    "recalibrate": (RESNET, lambda n: ww.use.recalibrate(n, "ms_sar", scales=(1, 2), ratio=4)),
    "recalibrate some": (RESNET, lambda n: ww.use.recalibrate(n, "se", sites="layers.2*", seed=5)),
    "recalibrate by predicate": (RESNET, lambda n: ww.use.recalibrate(n, "eca", sites=lambda s: s.order > 40)),
    "recalibrate dense layers": (
        ("timm/densenet121", {"classes": 3}),
        lambda n: ww.use.recalibrate(n, "se", sites="features.denseblock1*", input_size=(3, 64, 64)),
    ),
    "padding": (RESNET, lambda n: ww.hold.with_padding(n, "none", input_size=(3, 96, 96))),
    "padding, then collapse": (VGG, lambda n: ww.need.collapse(ww.hold.with_padding(n, "reflect"), "last 50%")),
    "recalibrate, then collapse": (RESNET, lambda n: ww.need.collapse(ww.use.recalibrate(n, "se"), "layers.2.1")),
    "collapse, then recalibrate": (
        RESNET,
        lambda n: ww.use.recalibrate(ww.need.collapse(n, "layers.2.0"), "se", sites="layers.0*"),
    ),
    "bottleneck": (SEGMENTER, lambda n: ww.say.bottleneck(n, "fuse", ["car", "road", "sky"])),
    "bottleneck of softmax": (SEGMENTER, lambda n: ww.say.bottleneck(n, "fuse", 6, activation="softmax", group=3)),
    "bottleneck given": (SEGMENTER, lambda n: ww.say.bottleneck(n, "fuse", ww.say.Bottleneck(32, 2, "linear"))),
    "all, in order": (
        SEGMENTER,
        lambda n: ww.say.bottleneck(ww.use.recalibrate(ww.hold.with_padding(n, "circular"), "se"), "fuse", 4),
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_surgery_is_done_again_on_other_weights_and_without_data(name: str) -> None:
    (model, options), operate = OPERATIONS[name]
    made = operate(ww.load_model(model, seed=1, **options))
    records = json.loads(json.dumps(surgeries(made)))
    assert not any("objects" in r for r in records)
    again = redone(ww.load_model(model, seed=2, **options), records)
    assert repr(again.module) == repr(made.module)
    assert surgeries(again) == surgeries(made)
    assert fingerprint(again.module) != fingerprint(made.module)
    again.module.load_state_dict(made.module.state_dict(), strict=True)
    x = torch.randn(2, *(made.input_size or SIZE))
    with torch.no_grad():
        assert torch.equal(again.module(x), made.module(x))


def test_unknown_surgery_and_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"surgery='need\.colapse' matches nothing\. Did you mean 'need\.collapse'"):
        redone(colours(), [{"do": "need.colapse", "options": {}}])
    with pytest.raises(InputError, match=r"surgery='need\.collapse' cannot be done with \{'where': 1\}"):
        redone(colours(), [{"do": "need.collapse", "options": {"where": 1}}])
