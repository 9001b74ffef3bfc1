"""Two processes on a CPU that train one network, against one process, and against shares by hand."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_choice import on_demand
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.network import Network
from whatwhere.training import ranks
from whatwhere.training.augment import augment
from whatwhere.training.fit import History, fit
from whatwhere.training.recipes import Recipe, SceneRecipe

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, crop_padding=1, nesterov=True)


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has imported everything already; the costly test starts its process as users do."""
    monkeypatch.setattr(ranks, "START", "fork")


def net_of(norm: bool) -> Network:
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(4)] if norm else []
    return Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), *middle, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    )


def state(net: Network) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in net.module.state_dict().items()}


def without_seconds(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in e.items() if k != "seconds"} for e in history.epochs]


def test_two_processes_are_one_on_the_same_batches(pictures, tmp_path: Path) -> None:
    """Without batch norm: the same weights to 1e-6, the same losses and accuracies, interrupted and not."""
    one, two = net_of(False), net_of(False)
    steps: list[int] = []

    def stop(done: int, total: int) -> None:
        steps.append(done)
        if done == 7:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"device": "cpu", "test": pictures(9)}
    expected = without_seconds(fit(one, pictures(), RECIPE, **options))
    environment, file = dict(os.environ), tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(net_of(False), pictures(), RECIPE, **options, devices=2, file=file, on_step=stop)
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    found = without_seconds(fit(two, pictures(), RECIPE, **options, devices=2, file=file))
    assert all(torch.allclose(v, state(two)[k], rtol=0, atol=1e-6) for k, v in state(one).items())
    for a, b in zip(expected, found, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert (a["train_accuracy"], a["test_accuracy"]) == (b["train_accuracy"], b["test_accuracy"])
    assert dict(os.environ) == environment
    assert not torch.distributed.is_initialized()
    assert (ranks.rank(), ranks.size(), ranks.launched()) == (0, 1, False)


@on_demand
def test_processes_that_are_started_anew(pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "START", "spawn")
    one, two = net_of(False), net_of(False)
    fit(one, pictures(), RECIPE, device="cpu")
    fit(two, pictures(), RECIPE, device="cpu", devices=2)
    assert all(torch.allclose(v, state(two)[k], rtol=0, atol=1e-6) for k, v in state(one).items())


def test_who_waits_for_a_test_waits_long_and_steps_do_not(pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of more than half an hour ended the training: the others waited for it as for a step."""
    made: dict[Any, timedelta] = {}
    used: list[Any] = []
    new_group, broadcast = torch.distributed.new_group, torch.distributed.broadcast_object_list

    def make(*given: Any, timeout: timedelta, **more: Any) -> Any:
        group = new_group(*given, timeout=timeout, **more)
        made[group] = timeout
        return group

    def send(objects: list[Any], src: int, group: Any = None) -> None:
        used.append(group)
        broadcast(objects, src, group=group)

    monkeypatch.setattr(torch.distributed, "new_group", make)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", send)
    history = fit(net_of(False), pictures(), RECIPE, device="cpu", test=pictures(9), devices=2)
    assert [*made.values()] == [timedelta(days=1)]
    assert len(used) >= 2 * len(history.epochs)
    assert {*used} == {*made}


def test_batch_norm_sees_the_share_of_each_process(pictures) -> None:
    """By hand: the mean of the gradients of both halves, each normalised by itself; the first's running statistics."""
    net, copies = net_of(True), [net_of(True).module.train() for _ in range(2)]
    split, recipe = pictures(), replace(RECIPE, epochs=1, momentum=0.0, nesterov=False, weight_decay=0.0)
    fit(net, split, recipe, seed=3, device="cpu", devices=2)
    draws, images = torch.Generator().manual_seed(3), next(split.batches(22))[0]
    order = torch.randperm(22, generator=draws)[:20]
    for step, rows in enumerate(order.split(4)):
        x = net.preprocessing.normalise(augment(images[rows], recipe, draws))
        for copy, part, labels in zip(copies, x.split(2), split.labels[rows].split(2), strict=True):
            copy.zero_grad()
            nn.functional.cross_entropy(copy(part), labels).backward()
        for a, b in zip(copies[0].parameters(), copies[1].parameters(), strict=True):
            gradient = (a.grad + b.grad) / 2
            for p in (a, b):
                p.data -= recipe.lr * recipe.factor(step, 5) * gradient
        for a, b in zip(copies[0].buffers(), copies[1].buffers(), strict=True):
            b.copy_(a)
    for name, value in copies[0].state_dict().items():
        assert torch.allclose(value, net.module.state_dict()[name], rtol=0, atol=1e-6), name


def test_dropout_draws_for_each_share_the_same_again_with_the_same_seed(pictures, small_net) -> None:
    one, *two = (small_net() for _ in range(3))
    fit(one, pictures(), RECIPE, device="cpu")
    for net in two:
        fit(net, pictures(), RECIPE, device="cpu", devices=2)
    assert all(torch.equal(v, state(two[1])[k]) for k, v in state(two[0]).items())
    assert not torch.allclose(state(one)["5.weight"], state(two[0])["5.weight"], rtol=0, atol=1e-3)


class Fails(nn.Module):
    """Gives NaN in the second process alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = net_of(False).module, 0

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(x)
        self.calls += self.training
        return scores * float("nan") if os.environ.get("RANK") == "1" and self.calls == 3 else scores


def test_what_fails_in_another_process_is_said_here(pictures) -> None:
    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step 3 \(epoch 1\)"):
        fit(Network(Fails()), pictures(), RECIPE, device="cpu", devices=2)


def test_what_cannot_be_shared_is_refused(pictures, small_net) -> None:
    with pytest.raises(InputError, match=r"devices=0: give a whole number of at least 1"):
        fit(small_net(), pictures(), RECIPE, device="cpu", devices=0)
    with pytest.raises(InputError, match=r"batch_size=4 cannot be shared equally by 3 devices"):
        fit(small_net(), pictures(), RECIPE, device="cpu", devices=3)
    streets = drawn_streets(train=4, validation=1, test=1, size=(32, 32))
    with pytest.raises(InputError, match=r"devices=2: a loss of pixels .* are trained on one device"):
        fit(small_net(), streets.train, SceneRecipe(epochs=1, batch_size=2), device="cpu", devices=2)
    hooked = small_net()
    hooked.module.register_forward_hook(lambda *given: None)
    with pytest.raises(InputError, match=r"devices=2: the training cannot be sent .* start your script with torchrun"):
        fit(hooked, pictures(), RECIPE, device="cpu", devices=2)


def test_layout_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.layout() == {}
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "there"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert (ranks.rank(), ranks.size()) == (5, 8)
    found = ranks.layout()
    assert (found["devices"], found["num_nodes"], found["strategy"]) == (4, 2, "ddp")
    assert type(found["plugins"][0]).__name__ == "TorchElasticEnvironment"


def test_a_checkpoint_that_not_all_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks.check_same(None, 3, "epochs")
    monkeypatch.setattr(ranks, "from_first", lambda fabric, look: 2)
    with pytest.raises(InputError, match="epochs: 3 for process 0, 2 for the first; give a folder that all machines"):
        ranks.check_same(None, 3, "epochs")
