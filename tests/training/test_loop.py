"""What an epoch does beside its steps: no wait for the device, settled batch norm, compiled and fused ways."""

from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from small_choice import on_demand
from whatwhere import descent
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.need import shuffle
from whatwhere.network import Network
from whatwhere.site_table import list_sites
from whatwhere.training import feed
from whatwhere.training.distil import Distil, Remembered
from whatwhere.training.fit import fit
from whatwhere.training.loop import lone_norm
from whatwhere.training.recipes import Recipe, SceneRecipe

import_module("lightning_fabric")  # it wraps torch.compile, which tests replace for a while
RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, crop_padding=1)
# Reading a value, comparing all of them, or choosing by a mask: on a GPU the host waits for each.
WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero"}


class Watched(TorchDispatchMode):
    """Notes the operations for which a host would wait, between the second and the last step of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.seen, self.steps = False, [], 0

    def on_step(self, done: int, total: int) -> None:
        self.steps += 1
        self.now = 1 <= done % 5 < 4

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = (
            name.startswith("index")
            and any(
                t is not None and t.dtype in (torch.bool, torch.uint8)
                for t in (args[1] if len(args) > 1 else [])
                if t is not None
            )
            if name in ("index", "index_put_")
            else False
        )
        if self.now and (name in WAITS or masked):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "_at_hand", lambda value: False)
    monkeypatch.setattr(feed, "_apart", lambda device: True)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("taught", [False, True])
def test_no_step_waits_for_the_device(pictures, small_net, taught: bool) -> None:
    table = torch.randn(22, 3, generator=torch.Generator().manual_seed(0))
    objective = Distil(RECIPE, Remembered(table), 0.5, 2.0) if taught else None
    recipe = replace(RECIPE, label_smoothing=0.1, nesterov=True, ema=0.9)
    net = small_net()
    with Watched() as watched:
        fit(net, pictures(), recipe, device="cpu", on_step=watched.on_step, objective=objective)
    assert watched.steps == 10
    assert watched.seen == []


def test_a_wait_would_be_seen(pictures, small_net) -> None:
    """The control: reading every loss, as on a CPU."""
    with Watched() as watched:
        fit(small_net(), pictures(), RECIPE, device="cpu", on_step=watched.on_step)
    assert watched.seen


def test_losses_read_late_are_the_same(pictures, small_net, as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    late = small_net()
    seen = fit(late, pictures(), RECIPE, device="cpu").epochs
    monkeypatch.undo()
    early = small_net()
    expected = fit(early, pictures(), RECIPE, device="cpu").epochs
    kept = ("loss", "train_accuracy")
    assert [[e[k] for k in kept] for e in seen] == [[e[k] for k in kept] for e in expected]
    assert all(torch.equal(a, b) for a, b in zip(late.module.parameters(), early.module.parameters(), strict=True))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_no_step_on_scenes_waits_but_for_their_decoding() -> None:
    streets = drawn_streets(train=20, validation=1, test=1, size=(32, 32))
    net = Network(nn.Conv2d(3, len(streets.classes), 3, padding=1))
    waits: list[str] = []
    from whatwhere.training import objectives

    real = objectives.Segment.loss

    def loss(self: Any, output: Any, labels: Any) -> Any:
        watched = Watched()
        watched.now = True
        with watched:
            found = real(self, output, labels)
        waits.extend(watched.seen)
        return found

    recipe = SceneRecipe(
        epochs=1, batch_size=4, crop=(16, 16), class_weights=tuple(1.0 + i for i in range(len(streets.classes)))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives.Segment, "loss", loss)
        fit(net, streets.train, recipe, device="cpu")
    assert waits == []


def test_batch_norm_settles_in_the_step_that_the_recipe_says(pictures, small_net) -> None:
    """Running statistics move in the first half of the steps, which ends within an epoch, and not after."""
    net, means = small_net(), []
    norm = next(m for m in net.module.modules() if isinstance(m, nn.BatchNorm2d))
    recipe = replace(RECIPE, epochs=3, settled=0.5)  # 15 steps: 7 with the batch's statistics
    fit(net, pictures(), recipe, device="cpu", on_step=lambda done, total: means.append(norm.running_mean.clone()))
    moved = [not torch.equal(a, b) for a, b in pairwise(means)]
    assert moved == [True] * 6 + [False] * 8
    means.clear()
    fit(net, pictures(), replace(recipe, settled=1.0), device="cpu", on_step=lambda *_: means.append(norm.running_mean))
    assert norm.num_batches_tracked == 7 + 15


def test_the_layout_is_the_recipes(pictures) -> None:
    seen: list[bool] = []

    class Looks(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.is_contiguous() and not x.is_contiguous(memory_format=torch.channels_last))
            return super().forward(x).mean((2, 3))

    nets = [Network(Looks(3, 3, 3)) for _ in range(2)]
    nets[1].module.load_state_dict(nets[0].module.state_dict())
    for net, last in zip(nets, (True, False), strict=True):
        fit(net, pictures(), replace(RECIPE, channels_last=last), device="cpu")
        assert set(seen) == {not last}
        seen.clear()
    assert torch.allclose(nets[0].module.weight, nets[1].module.weight, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fused_updates_are_the_same_but_for_rounding(pictures, small_net, optimizer: Any) -> None:
    nets = [small_net(), small_net()]
    for net, fused in zip(nets, (False, True), strict=True):
        fit(net, pictures(), replace(RECIPE, optimizer=optimizer, lr=1e-3, fused=fused), device="cpu")
    for a, b in zip(nets[0].module.parameters(), nets[1].module.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def compiled_by(backend: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    real, asked = torch.compile, []

    def compile(module: nn.Module, **options: Any) -> Any:
        asked.append(options)
        return real(module, backend=backend)

    monkeypatch.setattr(torch, "compile", compile)
    return asked


@on_demand
def test_a_compiled_training_sees_the_interventions(pictures, small_net, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch follows the code and runs it as it is ("eager"): the bits are the same, draws of a shuffle included."""
    asked, weights = compiled_by("eager", monkeypatch), []
    for compile in (False, True):
        net, draws = small_net(), torch.Generator().manual_seed(5)
        with shuffle(net, "0", generator=draws, table=list_sites(net, input_size=(3, 6, 6))):
            fit(net, pictures(), replace(RECIPE, compile=compile), device="cpu", generators={"shuffle": draws})
        weights.append({k: v.clone() for k, v in net.module.state_dict().items()})
        assert not hasattr(net.module, "_orig_mod")
        assert net.module._compiled_call_impl is None
    assert asked[0] == {"mode": None}
    assert all(torch.equal(weights[0][k], v) for k, v in weights[1].items())
    plain = small_net()
    fit(plain, pictures(), RECIPE, device="cpu")
    assert not torch.equal(plain.module.state_dict()["0.weight"], weights[0]["0.weight"])


def test_compiling_is_asked_for_and_leaves_nothing(pictures, small_net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The costly tests (WHATWHERE_LARGE=1) compile; here what Fabric gets is the module itself."""
    asked: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module, **options: asked.append((module, options)) or module)
    net, plain = small_net(), small_net()
    fit(net, pictures(), replace(RECIPE, compile=True), device="cpu")
    fit(plain, pictures(), RECIPE, device="cpu")
    assert asked == [(net.module, {"mode": None})]
    assert all(torch.equal(a, b) for a, b in zip(net.module.parameters(), plain.module.parameters(), strict=True))


def test_what_cannot_be_compiled_is_said(pictures, small_net, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    compiled_by(broken, monkeypatch)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"compile=True: PyTorch cannot compile .*no compiler here.* leave compile out"
    ):
        fit(small_net(), pictures(), replace(RECIPE, compile=True), device="cpu")


@on_demand
def test_a_compiled_resnet_learns_the_same(digits) -> None:
    train, losses = digits.train.take(128), []
    for compile in (False, True):
        net = load_model("cifar/resnet20", classes=10, width=0.25)
        recipe = Recipe(epochs=1, batch_size=32, lr=1e-3, compile=compile)  # rounding multiplies at high rates
        losses.append([e["loss"] for e in fit(net, train, recipe, device="cpu").epochs])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_norm_that_fails_is_found() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    assert lone_norm(module, torch.zeros(1, 3, 5, 5)) == "3"
