import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from whatwhere.errors import InputError
from whatwhere.interventions import Intervention
from whatwhere.models.cifar import make
from whatwhere.need.averaging import pool
from whatwhere.need.branch import SharedPrefix
from whatwhere.need.shuffling import Shuffler, shuffle
from whatwhere.site import Sites
from whatwhere.site_table import list_sites

SIZE = (3, 32, 32)


def tiny(block: Any = BasicBlock) -> nn.Module:
    torch.manual_seed(0)
    net = ResNet(block, [1, 2, 1, 1], num_classes=4, width_per_group=64)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.2, 0.2)
            m.running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def basic() -> tuple[nn.Module, Sites]:
    net = tiny()
    return net, list_sites(net, input_size=SIZE)


# ---- restoration


def everything(net: nn.Module) -> dict[str, Any]:
    """All that an intervention could leave behind."""
    return {
        "state": {k: v.clone() for k, v in net.state_dict().items()},
        "rng": torch.get_rng_state(),
        "flags": [m.training for m in net.modules()],
        "hooks": [{k: list(v.items()) for k, v in vars(m).items() if "hooks" in k} for m in net.modules()],
        "dicts": [{k: id(v) for k, v in vars(m).items() if not isinstance(v, bool)} for m in net.modules()],
        "forwards": [vars(m).get("forward") for m in net.modules()],
        "padding": [(m.padding_mode, m.padding) for m in net.modules() if isinstance(m, nn.Conv2d)],
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before["state"].keys() == after["state"].keys()
    for key, value in before["state"].items():
        assert torch.equal(value, after["state"][key]), key
    assert torch.equal(before["rng"], after["rng"])
    for key in ("flags", "hooks", "dicts", "forwards", "padding"):
        assert before[key] == after[key], key


@contextmanager
def prefix(net: nn.Module, table: Sites, x: Tensor) -> Iterator[None]:
    with SharedPrefix(net) as run:
        run(x, {table.select("layer2.0")[0]: lambda resume: resume()})
        yield


@contextmanager
def prefix_and_shuffle(net: nn.Module, table: Sites, x: Tensor) -> Iterator[None]:
    def at_cut(resume: Callable[[], Tensor]) -> None:
        with shuffle(net, "layer2.0:", table=table, padding="circular"):
            resume()

    with SharedPrefix(net) as run:
        run(x, {table.select("layer2.0")[0]: at_cut})
        yield


@contextmanager
def nested(net: nn.Module, table: Sites, x: Tensor) -> Iterator[None]:
    with (
        shuffle(net, "layer2", table=table, padding="circular"),
        pool(net, "layer2.1:", table=table, padding="circular"),
        shuffle(net, "layer1.0.relu#2", table=table),
    ):
        yield


WAYS: dict[str, Callable[[nn.Module, Sites, Tensor], Any]] = {
    "shuffle": lambda net, table, x: shuffle(net, table=table, padding="circular"),
    "shuffle one call": lambda net, table, x: shuffle(net, "layer1.0.relu#2", table=table),
    "pool": lambda net, table, x: pool(net, "layer2:", table=table, padding="circular"),
    "shared prefix": prefix,
    "shared prefix and shuffle": prefix_and_shuffle,
    "nested": nested,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_network_comes_back_bit_identical(basic: tuple[nn.Module, Sites], way: str) -> None:
    net, table = copy.deepcopy(basic[0]), basic[1]
    user = net.layer1.register_forward_hook(lambda *_: None)  # another's hook stays
    net.train().layer1.eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    x = torch.randn(2, *SIZE)
    before = everything(net)
    with torch.no_grad():
        plain = net(x)
        with WAYS[way](net, table, x):
            during = net(x)
    same(before, everything(net))
    if way != "shared prefix" and way != "shared prefix and shuffle":
        assert not torch.equal(plain, during)
    with torch.no_grad():
        assert torch.equal(plain, net(x))
    user.remove()


@pytest.mark.parametrize("way", WAYS)
def test_also_after_an_exception_in_the_block(basic: tuple[nn.Module, Sites], way: str) -> None:
    net, table = copy.deepcopy(basic[0]), basic[1]
    x = torch.randn(2, *SIZE)
    before = everything(net)

    def run() -> None:
        with torch.no_grad(), WAYS[way](net, table, x):
            net(x)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    same(before, everything(net))


@pytest.mark.parametrize("way", WAYS)
def test_also_after_an_exception_in_a_hook(basic: tuple[nn.Module, Sites], way: str) -> None:
    net, table = copy.deepcopy(basic[0]), basic[1]

    def broken(m: nn.Module, args: Any) -> None:
        raise ZeroDivisionError

    x = torch.randn(2, *SIZE)
    before = everything(net)
    handles = []

    def run() -> None:
        with torch.no_grad(), WAYS[way](net, table, x):
            handles.append(net.layer2[1].conv1.register_forward_pre_hook(broken))
            net(x)

    with pytest.raises(ZeroDivisionError):
        run()
    handles[0].remove()
    same(before, everything(net))


@pytest.mark.parametrize("where", ["resume", "callback"])
def test_also_after_an_exception_at_a_cut(basic: tuple[nn.Module, Sites], where: str) -> None:
    net, table = copy.deepcopy(basic[0]), basic[1]
    x = torch.randn(2, *SIZE)
    before = everything(net)

    def at_cut(resume: Callable[[], Tensor]) -> None:
        if where == "callback":
            raise ZeroDivisionError
        with Intervention(net, {table.select("layer3.0.conv1")[0]: lambda x: x / (1 // 0)}):
            resume()

    def run() -> None:
        with torch.no_grad(), SharedPrefix(net) as shared:
            shared._checked.add(("layer2.0",))
            shared(x, {table.select("layer2.0")[0]: at_cut})

    with pytest.raises(ZeroDivisionError):
        run()
    same(before, everything(net))


def test_what_was_installed_before_a_failure_is_taken_back() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding="same"))
    table = list_sites(net, input_size=(3, 6, 6))
    before = everything(net)
    with pytest.raises(InputError, match="numeric padding"), shuffle(net, padding="circular", table=table):
        pass
    same(before, everything(net))


def test_in_training_the_batch_norms_learn_as_ever_but_nothing_else_stays() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    table = list_sites(net, input_size=(3, 6, 6))
    x = torch.randn(2, 3, 6, 6)
    before = everything(net)
    with pool(net, table=table):
        net.train()(x).sum().backward()
    after = everything(net.eval())
    assert int(net[1].num_batches_tracked) == 1
    before["flags"] = after["flags"]
    before["state"] = after["state"]
    before["dicts"] = after["dicts"]
    same(before, after)


# ---- residual blocks, by hand


class Spy:
    """Records the draws a Shuffler makes, in order, and replays them by plain indexing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn: list[Tensor] = []
        index = Shuffler._index

        def spied(shuffler: Shuffler, maps: Tensor) -> Tensor:
            self.drawn.append(index(shuffler, maps))
            return self.drawn[-1]

        monkeypatch.setattr(Shuffler, "_index", spied)

    def __call__(self, maps: Tensor) -> Tensor:
        return maps.flatten(1)[:, self.drawn.pop(0)].view(maps.shape)


def basic_block(b: Any, x: Tensor, shuffled: Callable[[Tensor], Tensor], shortcuts: bool) -> Tensor:
    """Both 3 x 3 convolutions' inputs, the shortcut, and in a down-sampling block the projection's input."""
    shortcut = shuffled(x) if shortcuts else x
    y = b.bn1(b.conv1(shuffled(x)))
    y = b.bn2(b.conv2(shuffled(torch.relu(y))))
    if b.downsample is not None:
        shortcut = b.downsample(shortcut)  # its output stays as it is
    return torch.relu(y + shortcut)


def bottleneck(b: Any, x: Tensor, shuffled: Callable[[Tensor], Tensor], shortcuts: bool) -> Tensor:
    shortcut = shuffled(x) if shortcuts else x
    y = torch.relu(b.bn1(b.conv1(x)))  # 1 x 1: left alone
    y = torch.relu(b.bn2(b.conv2(shuffled(y))))
    y = b.bn3(b.conv3(y))
    if b.downsample is not None:
        shortcut = b.downsample(shortcut)  # its output stays as it is
    return torch.relu(y + shortcut)


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize(("block", "by_hand"), [(BasicBlock, basic_block), (Bottleneck, bottleneck)])
def test_residual_blocks_by_hand(block: Any, by_hand: Any, shortcuts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net: Any = tiny(block)
    x, table = torch.randn(2, *SIZE), list_sites(net, input_size=SIZE)
    spy = Spy(monkeypatch)
    with torch.no_grad():
        with shuffle(net, "layer2", table=table, shortcuts=shortcuts) as active:
            scores = net(x)
        # In order of drawing: the draws of a block come as its parts run.
        drawn = list(spy.drawn)
        assert len({tuple(d.tolist()) for d in drawn}) == len(drawn)  # all independent
        y = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))
        for b in net.layer2:
            y = by_hand(b, y, spy, shortcuts)
        y = net.fc(net.avgpool(net.layer4(net.layer3(y))).flatten(1))
    assert not spy.drawn  # as many as by hand
    torch.testing.assert_close(scores, y, atol=1e-5, rtol=1e-5)
    convs = ("layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1", "layer2.1.conv2")
    convs = convs if block is BasicBlock else convs[1::2]
    assert active.matched == convs + (("layer2.0", "layer2.1") if shortcuts else ())
    assert active.ran == dict.fromkeys(active.matched, 1)


def test_timms_blocks_are_the_same_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    net: Any = timm.create_model("resnet18", num_classes=4, channels=(8, 8, 8, 8)).eval()
    x, table = torch.randn(2, *SIZE), list_sites(net, input_size=SIZE)
    spy = Spy(monkeypatch)
    with torch.no_grad():
        with shuffle(net, "layer2", table=table):
            scores = net(x)
        y = net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(x)))))
        for b in net.layer2:
            y = basic_block(b, y, spy, True)
        y = net.forward_head(net.layer4(net.layer3(y)))
    assert not spy.drawn
    torch.testing.assert_close(scores, y, atol=1e-5, rtol=1e-5)


def test_a_shuffled_projection_keeps_its_channels_coherent() -> None:
    """At one position, the outputs y = P x of a 1 x 1 projection mix the same entries of the shuffled input.

    Its channels are independent there, so the covariance of the outputs over positions is P diag(var x) P^T in
    expectation. Were the output shuffled as well, nothing but its diagonal would remain.
    """
    torch.manual_seed(0)
    block: Any = BasicBlock(6, 6, stride=2, downsample=nn.Conv2d(6, 6, 1, stride=2, bias=False)).eval()
    nn.init.zeros_(block.bn2.weight)  # no branch: what leaves the block is its shortcut
    block.relu = nn.Identity()
    net, size = nn.Sequential(block, nn.AdaptiveAvgPool2d(1)), (6, 16, 16)
    x, table = torch.randn(1, *size).mul(torch.arange(1.0, 7.0).view(1, 6, 1, 1)), list_sites(net, input_size=size)
    seen: list[Tensor] = []
    block.register_forward_hook(lambda m, a, y: seen.append(y[0].flatten(1)))
    with torch.no_grad(), shuffle(net, table=table):
        for _ in range(400):
            net(x)
    p = block.downsample.weight.detach()[:, :, 0, 0]
    expected = p @ torch.diag(x[0].flatten(1).var(1, correction=0)) @ p.T
    found = torch.stack([y.cov() for y in seen]).mean(0)
    torch.testing.assert_close(found, expected, atol=0.03 * float(expected.diagonal().max()), rtol=0)
    apart = expected - torch.diag(expected.diagonal())
    assert float((found * apart).sum() / apart.square().sum()) == pytest.approx(1, abs=0.05)


def test_a_block_that_is_cut_in_the_middle_keeps_its_shortcut(basic: tuple[nn.Module, Sites]) -> None:
    net, table = basic
    assert shuffle(net, "layer2.0.conv2", table=table).matched == ("layer2.0.conv2",)


def test_a_block_that_runs_twice_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = BasicBlock(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x))

    net = Twice().eval()
    x, table = torch.randn(2, 3, 4, 4), list_sites(net, input_size=(3, 4, 4))
    spy = Spy(monkeypatch)
    with torch.no_grad():
        with shuffle(net, table=table) as active:
            both = net(x)
        by_hand = basic_block(net.block, basic_block(net.block, x, spy, True), spy, True)
        assert not spy.drawn
        torch.testing.assert_close(both, by_hand)
        assert active.ran == dict.fromkeys(active.matched, 1)
        with shuffle(net, ["block.conv1#2", "block.conv2#2"], table=table) as active:
            second = net(x)
        assert active.matched == ("block.conv1#2", "block.conv2#2", "block#2")
        by_hand = basic_block(net.block, net.block(x), spy, True)
    assert not spy.drawn
    torch.testing.assert_close(second, by_hand)


# ---- which call


class Repeats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(self.conv(x)))


@pytest.mark.parametrize("call", [1, 2, 3])
def test_only_the_named_call_is_changed(call: int) -> None:
    net = Repeats()
    x, table = torch.randn(1, 2, 4, 4), list_sites(net, input_size=(2, 4, 4))
    with torch.no_grad(), pool(net, f"conv#{call}", table=table) as active:
        scores = [net(x), net(x)]  # the count starts anew with each forward pass
        y = x
        net_conv = copy.deepcopy(net.conv)
        net_conv._forward_pre_hooks.clear()
        for i in (1, 2, 3):
            y = net_conv(y.mean((2, 3), keepdim=True).expand(1, 2, 4, 4) if i == call else y)
    for s in scores:
        torch.testing.assert_close(s, y)
    assert active.ran == {f"conv#{call}": 2}


def test_a_part_of_the_network_run_alone_is_changed_every_time() -> None:
    net = make("vgg11", classes=3, width=1 / 16).eval()
    x, table = torch.randn(1, *SIZE), list_sites(net, input_size=SIZE)
    plain = net.features(x)
    with torch.no_grad(), shuffle(net, "features.4", table=table) as active:
        parts = [net.features(x) for _ in range(3)]
    assert active.ran == {"features.4": 3}
    assert not any(torch.equal(p, plain) for p in parts)


def test_counted_calls_need_the_whole_network() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Repeats()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    net = Outer()
    table = list_sites(net, input_size=(2, 4, 4))
    with pytest.raises(InputError, match="call the network, not a part"), pool(net, "inner.conv#2", table=table):
        net.inner(torch.randn(1, 2, 4, 4))


# ---- complaints


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.on = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), True

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) if self.on else self.a(x)


def test_a_site_that_never_ran_complains() -> None:
    net = Skips()
    table = list_sites(net, input_size=(2, 4, 4))
    net.on = False
    with (
        pytest.raises(InputError, match="ran 1 times, but these sites were never reached: b"),
        shuffle(net, table=table),
    ):
        net(torch.randn(1, 2, 4, 4))


def test_no_complaint_without_a_forward_pass_nor_over_another_error() -> None:
    net = Skips()
    table = list_sites(net, input_size=(2, 4, 4))
    net.on = False
    with shuffle(net, table=table):
        pass
    with shuffle(net, table=table, when="train"):
        net.eval()(torch.randn(1, 2, 4, 4))

    def breaks() -> None:
        with shuffle(net, table=table):
            net(torch.randn(1, 2, 4, 4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks()


def test_an_unmatched_selection_prints_the_choices() -> None:
    with pytest.raises(InputError, match=r"sites='layer4\*' matches nothing.*Choices: a, b"):
        shuffle(Skips(), "layer4*", table=list_sites(Skips(), input_size=(2, 4, 4)))
    with pytest.raises(InputError, match="empty"):
        pool(Skips(), [], table=list_sites(Skips(), input_size=(2, 4, 4)))


@pytest.mark.parametrize("how", ["compiled", "in place", "a part"])
def test_a_compiled_module_is_refused(how: str) -> None:
    net: nn.Module = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())
    if how == "in place":
        net.compile(backend="eager")
    elif how == "compiled":
        net = torch.compile(net, backend="eager")  # type: ignore[assignment]
    else:
        net[0] = torch.compile(net[0], backend="eager")  # type: ignore[operator]
    for use in (shuffle, pool, list_sites, SharedPrefix):
        with pytest.raises(InputError, match="is compiled"):
            use(net)  # type: ignore[operator]


def test_wrong_words_are_refused() -> None:
    net, table = Skips(), list_sites(Skips(), input_size=(2, 4, 4))
    with pytest.raises(InputError, match="when='never'"):
        shuffle(net, table=table, when="never")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="padding='reflect'"):
        pool(net, table=table, padding="reflect")  # type: ignore[arg-type]


def test_an_intervention_cannot_be_entered_twice_at_once_but_again() -> None:
    net = Skips()
    active = pool(net, table=list_sites(net, input_size=(2, 4, 4)))
    with active, pytest.raises(InputError, match="active already"), active:
        pass
    with active:
        net(torch.randn(1, 2, 4, 4))
    assert active.ran == {"a": 1, "b": 1}
    assert not net.a._forward_pre_hooks


def test_circular_padding_refuses_what_pads_by_itself() -> None:
    net = timm.create_model("tf_efficientnet_b0", num_classes=2)
    with (
        pytest.raises(InputError, match="Conv2dSame"),
        pool(net, "conv_stem", padding="circular", table=list_sites(net, input_size=SIZE)),
    ):
        pass


def test_tokens_are_shuffled_without_the_class_token() -> None:
    net: Any = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2
    ).eval()
    x, table = torch.randn(2, 3, 16, 16), list_sites(net, input_size=(3, 16, 16))
    seen: list[Tensor] = []
    handle = net.blocks[1].norm1.register_forward_pre_hook(lambda _m, a: seen.append(a[0].clone()))
    with torch.no_grad():
        net(x)
        with shuffle(net, "blocks.1", mode="shared", table=table):
            net(x)
    handle.remove()
    plain, shuffled = seen
    assert torch.equal(plain[:, 0], shuffled[:, 0])
    order = [next(j for j in range(1, 5) if torch.equal(shuffled[0, i], plain[0, j])) for i in range(1, 5)]
    assert sorted(order) == [1, 2, 3, 4]
    assert torch.equal(shuffled[:, 1:], plain[:, order])


def test_a_shared_shuffle_of_a_vit_without_positions_afterwards_changes_nothing() -> None:
    """After the positions are added, a transformer does not care about the order of its tokens."""
    net = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=8, depth=2, num_heads=2).eval()
    x, table = torch.randn(2, 3, 16, 16), list_sites(net, input_size=(3, 16, 16))
    with torch.no_grad(), shuffle(net, "blocks.0", mode="shared", table=table) as active:
        shuffled = net(x)
    assert active.ran == {"blocks.0": 1}
    with torch.no_grad():
        torch.testing.assert_close(shuffled, net(x), atol=1e-5, rtol=1e-5)


def test_only_changed_calls_wrap_around() -> None:
    net = Repeats()
    x, table = torch.randn(1, 2, 4, 4), list_sites(net, input_size=(2, 4, 4))
    wrapped = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
    wrapped.load_state_dict(net.conv.state_dict())
    with torch.no_grad():
        by_hand = net.conv(wrapped(net.conv(x).mean((2, 3), keepdim=True).expand(1, 2, 4, 4)))
        plain = net(x)
        with pool(net, "conv#2", padding="circular", table=table):
            torch.testing.assert_close(net(x), by_hand)
            assert net.conv.padding_mode == "zeros"
        with pool(net, "conv#2", padding="circular", when="train", table=table):
            assert torch.equal(net.eval()(x), plain)
            torch.testing.assert_close(net.train()(x), by_hand)


def test_nested_circular_padding_ends_with_its_block() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1))
    x, table = torch.randn(1, 2, 4, 4), list_sites(net, input_size=(2, 4, 4))
    with torch.no_grad(), pool(net, table=table):
        zeros = net(x)
        with pool(net, table=table, padding="circular"):
            wrapped = net(x)
            assert torch.equal(wrapped, net(x))
        assert torch.equal(net(x), zeros)
    assert not torch.equal(zeros, wrapped)
    torch.testing.assert_close(wrapped, wrapped.mean((2, 3), keepdim=True).expand_as(wrapped))


class PreActivation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())


def test_in_a_pre_activation_block_the_convolutions_own_input_is_changed() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(PreActivation(4)).eval()
    nn.init.uniform_(net[0].bn1.running_mean, 0.5, 1)
    x, seen = torch.randn(2, 4, 6, 6), []
    with torch.no_grad(), shuffle(net, table=list_sites(net, input_size=(4, 6, 6))) as block:
        handle = net[0].conv1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        net(x)
        handle.remove()
        expected = net[0].bn1(x).relu()
    assert block.matched == ("0.conv1", "0.conv2", "0")  # the shortcut too; the branch begins at its norm
    torch.testing.assert_close(seen[0].flatten(2).sort()[0], expected.flatten(2).sort()[0])


def test_a_block_whose_branch_does_not_begin_at_conv1() -> None:
    class Odd(PreActivation):
        def __init__(self) -> None:
            super().__init__(4)
            self.bn1 = self._modules.pop("bn1")  # registered last, run first

    net = nn.Sequential(Odd()).eval()
    x, seen = torch.randn(2, 4, 6, 6), []
    with torch.no_grad(), pool(net, table=list_sites(net, input_size=(4, 6, 6))) as pooled:
        net[0].bn1.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        y = net(x)
    assert pooled.matched == ("0.conv1", "0.conv2", "0")
    assert torch.equal(seen[0], x)  # the branch begins with the map as it was
    branch = net[0].conv2(constant(net[0].bn2(net[0].conv1(constant(net[0].bn1(x).relu()))).relu()))
    torch.testing.assert_close(y, constant(x) + branch.detach())


def constant(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True).expand_as(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_is_refused(reentrant: bool) -> None:
    """The backward pass would run the hooks again, with other draws than the forward pass had."""

    class Checkpointed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=reentrant)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Checkpointed(nn.Conv2d(4, 4, 3)))
    table = list_sites(net, input_size=(3, 8, 8))
    with pytest.raises(InputError, match="gradient checkpointing"), shuffle(net, "1.0", table=table):
        net(torch.randn(2, 3, 8, 8)).sum().backward()
    with pool(net, "0", table=table):  # what is not run again may be changed
        net(torch.randn(2, 3, 8, 8)).sum().backward()


# ---- modules called with keywords, or with None first


class Called(nn.Module):
    """A network whose block and convolution are called in one way or another."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.a, self.block, self.c = nn.Conv2d(3, 4, 3, padding=1), Asked(), nn.Conv2d(4, 4, 3, padding=1)
        self.head, self.how = nn.Linear(4, 3), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        calls = {
            "positional": lambda: self.c(self.block(x)),
            "keywords": lambda: self.c(input=self.block(hidden_states=x)),
            "None first": lambda: self.c(input=self.block(None, x)),
        }
        return self.head(calls[self.how]().relu().mean((2, 3)))


class Asked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.downsample: nn.Module | None = None

    def forward(self, mask: Any = None, hidden_states: Any = None) -> Tensor:
        x = mask if hidden_states is None else hidden_states
        return self.conv2(self.bn1(self.conv1(input=x))).relu() + x


@pytest.mark.parametrize("how", ["keywords", "None first"])
@pytest.mark.parametrize("sites", ["block", "c", "block.conv1", None])
def test_calls_with_keywords_are_changed_as_positional_ones(how: str, sites: str | None) -> None:
    x, scores = torch.randn(4, 3, 8, 8), {}
    for way in ("positional", how):
        net = Called(way).eval()
        table = list_sites(net, input_size=(3, 8, 8))
        with torch.no_grad(), shuffle(net, sites, seed=1, table=table) as run:
            scores[way] = net(x)
        assert all(run.ran[name] == 1 for name in run.matched)
        assert not torch.equal(scores[way], net(x))
    assert torch.equal(scores["positional"], scores[how])
    assert [(s.name, s.shape_in) for s in list_sites(Called(how), input_size=(3, 8, 8))] == [
        (s.name, s.shape_in) for s in table
    ]


def test_a_call_without_a_map_is_explained() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.given = nn.Conv2d(3, 3, 1), Passing(), True

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x + self.act(x if self.given else None)

    net = Sometimes().eval()
    table = list_sites(net, input_size=(3, 4, 4))
    net.given = False
    with pytest.raises(InputError, match="act is called without a map here"), shuffle(net, "act", table=table):
        net(torch.randn(1, 3, 4, 4))


class Passing(nn.Module):
    def forward(self, x: Any) -> Any:
        return 0 if x is None else x


def test_what_a_call_gives_is_changed_for_all_who_read_it() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.act(x) - 1)
            return y + y.flip(-1)

    net, x = Twice().eval(), torch.randn(2, 3, 4, 4)
    (second,) = [s for s in list_sites(net, input_size=(3, 4, 4)) if s.name == "act#2"]
    acts = Intervention(net, {}, outputs={second: lambda maps: maps * 10})
    assert acts.matched == ("act#2 (output)",)
    with acts:
        changed = net(x)
    torch.testing.assert_close(changed, 10 * net(x))
    assert acts.ran == {"act#2 (output)": 1}
