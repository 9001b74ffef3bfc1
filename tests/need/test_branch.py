from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.squeezenet import SqueezeNet

from whatwhere.errors import InputError
from whatwhere.models.cifar import make
from whatwhere.need.averaging import pool
from whatwhere.need.branch import SharedPrefix
from whatwhere.need.cuts import cuts_of
from whatwhere.need.shuffling import shuffle
from whatwhere.site import Site, Sites
from whatwhere.site_table import list_sites

Resume = Callable[[], Tensor]


class InPlace(nn.Module):
    """Functional in-place operations, and in-place ReLUs on what was recorded before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.conv3 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv1(x)))
        identity = x
        out = self.conv2(x)
        out += identity
        out.mul_(1.5)
        F.relu(out, inplace=True)
        out = self.relu(self.conv3(out))
        identity.add_(out)
        return self.fc(F.adaptive_avg_pool2d(identity, 1).flatten(1))


class Shared(nn.Module):
    """A module that runs inside a block that is complete at the cut, at the top, and after the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first = nn.Sequential(self.conv, nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.BatchNorm2d(3), self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.second(self.conv(self.first(x)))).mean((2, 3))


NETS: dict[str, Any] = {
    "cifar vgg": lambda: make("vgg11", classes=5, width=1 / 16),
    "resnet20": lambda: make("resnet20", classes=5, width=1 / 4),
    "torchvision resnet18": lambda: ResNet(BasicBlock, [2, 2, 2, 2], num_classes=5),
    "timm resnet18": lambda: timm.create_model("resnet18", num_classes=5, channels=(8, 8, 16, 16)),
    "squeezenet": lambda: SqueezeNet("1_1", num_classes=5),
    "in place": InPlace,
    "shared": Shared,
    "root is sequential": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(inplace=True),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
}


def built(name: str) -> tuple[nn.Module, Sites, Tensor]:
    torch.manual_seed(0)
    net = NETS[name]().eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.3, 0.3)
    return net, list_sites(net, input_size=(3, 32, 32)), torch.randn(3, 3, 32, 32)


def places(name: str, table: Sites) -> list[Site]:
    if name in ("in place", "shared", "root is sequential"):
        return [s for s in table if s.is_spatial_conv]
    return cuts_of(table)


@pytest.mark.parametrize("name", NETS)
def test_bit_equal_with_the_plain_hook_path(name: str) -> None:
    net, table, x = built(name)
    cuts = places(name, table)
    cuts = cuts[:: max(1, len(cuts) // 4)]
    shared: dict[str, list[Tensor]] = {}

    def at(cut: Site) -> Callable[[Resume], None]:
        def at_cut(resume: Resume) -> None:
            scores = [resume()]
            for seed in (0, 1):
                with shuffle(net, f"{cut.name}:", seed=seed, table=table) as active:
                    scores.append(resume())
                assert set(active.ran.values()) == {1}
            with pool(net, f"{cut.name}:", table=table, padding="circular"):
                scores.append(resume())
            shared[cut.name] = scores

        return at_cut

    with torch.no_grad():
        intact = net(x)
        with SharedPrefix(net) as run:
            assert torch.equal(run(x, {c: at(c) for c in cuts}), intact)
            x2 = x.flip(0)
            torch.testing.assert_close(run(x2, {c: lambda resume: None for c in cuts}), intact.flip(0))
        assert list(shared) == [c.name for c in cuts]
        for cut in cuts:
            plain = [net(x)]
            for seed in (0, 1):
                with shuffle(net, f"{cut.name}:", seed=seed, table=table):
                    plain.append(net(x))
            with pool(net, f"{cut.name}:", table=table, padding="circular"):
                plain.append(net(x))
            for a, b in zip(shared[cut.name], plain, strict=True):
                assert torch.equal(a, b), cut.name
            assert not torch.equal(plain[1], plain[2])
            assert not torch.equal(plain[0], plain[3])


@pytest.mark.parametrize("name", ["torchvision resnet18", "in place", "squeezenet", "shared"])
def test_every_site_can_be_a_cut(name: str) -> None:
    net, table, x = built(name)
    chosen = list(table)[:: max(1, len(table) // 25)]
    outputs: dict[str, list[Tensor]] = {}

    def at(site: Site) -> Callable[[Resume], None]:
        def at_cut(resume: Resume) -> None:
            outputs[site.name] = [resume(), resume()]
            if site.kind != "group":
                with pool(net, lambda s: s.name == site.name, table=table, shortcuts=False):
                    outputs[site.name].append(resume())

        return at_cut

    with torch.no_grad():
        plain = net(x)
        with SharedPrefix(net) as run:
            assert torch.equal(run(x, {s: at(s) for s in chosen}), plain)
        for s in chosen:
            again = outputs[s.name]
            assert torch.equal(again[0], plain), s.name
            assert torch.equal(again[1], plain), s.name
            if len(again) == 3:
                with pool(net, lambda p, s=s: p.name == s.name, table=table, shortcuts=False):
                    assert torch.equal(again[2], net(x)), s.name


def test_modules_before_the_cut_do_not_run_again() -> None:
    net, table, x = built("torchvision resnet18")
    cut = table.select("layer2.1")[0]
    resumes = 5
    work: Counter[str] = Counter()

    class Counted:
        """Counts the computation itself, below anything the wrapper could skip."""

        def __init__(self, name: str, m: nn.Module) -> None:
            self.name, self.forward = name, m.forward

        def __call__(self, *args: Any) -> Any:
            work[self.name] += 1
            return self.forward(*args)

    leaves = {n: m for n, m in net.named_modules() if not list(m.children())}
    for n, m in leaves.items():
        m.forward = Counted(n, m)  # type: ignore[method-assign,assignment]

    def at_cut(resume: Resume) -> None:
        work.clear()
        for _ in range(resumes):
            resume()
        after.update(work)

    after: Counter[str] = Counter()
    with torch.no_grad(), SharedPrefix(net) as run:
        run(x, {cut: lambda resume: None})  # the check of the set of cuts
        run(x, {cut: at_cut})
    before = [n for n in leaves if n.split(".")[0] in ("conv1", "bn1", "relu", "maxpool", "layer1") or "layer2.0" in n]
    assert not any(after[n] for n in before)
    for n in leaves:
        if n not in before:
            assert after[n] == resumes * (2 if n.endswith("relu") else 1), n
    assert all(isinstance(m.forward, Counted) for m in leaves.values())  # the instances' own forwards are back


def test_the_example_of_the_docstring() -> None:
    """`shuffle` lists the sites at the cut, in the middle of the recorded run."""
    net = make("resnet20", classes=5, width=1 / 4).eval()
    net.pretrained_cfg = {"input_size": (3, 32, 32)}
    x, table = torch.randn(2, 3, 32, 32), list_sites(net)
    site = table.select("layers.2.0")[0]
    scores: list[Tensor] = []

    def at_cut(resume: Resume) -> None:
        with shuffle(net, "layers.2.0:"):
            scores.append(resume())

    with torch.no_grad():
        with SharedPrefix(net) as run:
            intact = run(x, {site: at_cut})
        assert torch.equal(intact, net(x))
        with shuffle(net, "layers.2.0:"):
            assert torch.equal(scores[-1], net(x))


def test_prefix_sharing_inside_a_residual_block_with_a_mutated_record() -> None:
    """The trap: `out += identity` edits what bn2 gave; the second resume must not see the first one's sum."""
    net, table, x = built("torchvision resnet18")
    site = table.select("layer1.0.relu#2")[0]
    seen: list[Tensor] = []
    with torch.no_grad(), SharedPrefix(net) as run:
        run(x, {site: lambda resume: seen.extend(resume() for _ in range(3))})
        assert all(torch.equal(s, net(x)) for s in seen)


class Dice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.b(F.relu(self.a(x))), 0.5, training=True)


def test_a_network_that_is_random_in_evaluation_is_refused() -> None:
    net = Dice().eval()
    table = list_sites(net, input_size=(3, 8, 8))
    with (
        torch.no_grad(),
        SharedPrefix(net) as run,
        pytest.raises(InputError, match="another output when it is run again"),
    ):
        run(torch.randn(2, 3, 8, 8), {table.select("b")[0]: lambda resume: None})


def test_inference_mode_is_refused() -> None:
    net, table, x = built("in place")
    with torch.inference_mode(), SharedPrefix(net) as run, pytest.raises(InputError, match=r"torch\.no_grad"):
        run(x, {table[0]: lambda resume: None})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_part_is_refused_and_nothing_stays_wrapped() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3), torch.jit.script(nn.ReLU()))
    with pytest.raises(InputError, match="scripted"), SharedPrefix(net):
        pass
    assert "forward" not in net[0].__dict__


def test_a_cut_that_is_never_reached_is_an_error() -> None:
    net, table, x = built("shared")
    site = next(s for s in table if s.name == "first.0#4" or s.call == 4)
    far = Site(**{**vars(site), "call": 9, "name": "conv#9"})
    with torch.no_grad(), SharedPrefix(net) as run, pytest.raises(InputError, match="never reached: conv#9"):
        run(x, {far: lambda resume: None})


def test_use_outside_of_the_block_and_twice_at_once_is_refused() -> None:
    net, table, x = built("in place")
    run = SharedPrefix(net)
    with pytest.raises(InputError, match="with block"):
        run(x, {table[0]: lambda resume: None})
    with run, pytest.raises(InputError, match="active already"), run:
        pass
    assert not any("forward" in vars(m) for m in net.modules())


def test_an_error_in_one_run_does_not_spoil_the_next() -> None:
    net, table, x = built("resnet20")
    site = table.select("layers.1.0")[0]

    def breaks(resume: Resume) -> None:
        if len(calls) > 0:
            raise ZeroDivisionError
        resume()

    calls: list[int] = []
    with torch.no_grad(), SharedPrefix(net) as run:
        run(x, {site: breaks})
        calls.append(1)
        with pytest.raises(ZeroDivisionError):
            run(x, {site: breaks})
        seen: list[Tensor] = []
        assert torch.equal(run(x, {site: lambda resume: seen.append(resume())}), net(x))
        assert torch.equal(seen[-1], net(x))
        assert torch.equal(net(x.flip(0)), net(x).flip(0))  # the wrapped network still runs plainly


def test_another_size_of_batch_and_no_cuts() -> None:
    net, table, x = built("cifar vgg")
    seen: list[Tensor] = []
    with torch.no_grad(), SharedPrefix(net) as run:
        assert torch.equal(run(x, {}), net(x))
        for n in (1, 3, 2):
            run(x[:n], {table[4]: lambda resume: seen.append(resume())})
            assert torch.equal(seen[-1], net(x[:n]))


def test_activations_are_let_go_after_a_run() -> None:
    net, table, x = built("cifar vgg")
    with torch.no_grad(), SharedPrefix(net) as run:
        run(x, {table[4]: lambda resume: None})
        assert run._recording is None
        assert not hasattr(run._state, "kept")


class Packed(nn.Module):
    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.pack, self.conv, self.last = pack, nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.last(self.conv(x)))


PACKS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], list[Tensor]]]] = {
    "tuple": (lambda y: (y, y.mean((2, 3))), list),
    "dict": (lambda y: {"out": y, "aux": y + 1}, lambda made: [made["out"], made["aux"]]),
    "detections": (lambda y: [{"boxes": row[:, 0], "n": 3} for row in y], lambda made: [row["boxes"] for row in made]),
}


@pytest.mark.parametrize("kind", PACKS)
def test_whatever_holds_tensors_is_given_as_it_is(kind: str) -> None:
    """The output of a segmentation network in a dict, of a detector in a list: as a full forward pass gives it."""
    pack, parts = PACKS[kind]
    net = Packed(pack).eval()
    table = list_sites(net, input_size=(3, 8, 8))
    cut = next(s for s in table if s.name == "last")
    x, found = torch.randn(2, 3, 8, 8), []
    with torch.no_grad(), SharedPrefix(net) as run:

        def at_cut(resume: Callable[[], Any]) -> None:
            with pool(net, "last", table=table):
                found.append(resume())

        intact = run(x, {cut: at_cut})
        plain = net(x)
    with torch.no_grad(), pool(net, "last", table=table):
        pooled = net(x)
    for seen, wanted in ((intact, plain), (found[-1], pooled)):
        assert type(seen) is type(wanted)
        assert all(torch.equal(a, b) for a, b in zip(parts(seen), parts(wanted), strict=True))


def test_a_network_that_gives_no_tensor_is_told() -> None:
    net = Packed(lambda y: {"out": "nothing"}).eval()
    cut = list_sites(net, input_size=(3, 8, 8))[0]
    x = torch.randn(2, 3, 8, 8)
    for cuts in ({}, {cut: lambda resume: None}):
        with torch.no_grad(), SharedPrefix(net) as run, pytest.raises(InputError, match=r"dict with out; .* Wrap it"):
            run(x, cuts)
    assert "forward" not in net.conv.__dict__
