from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

from whatwhere.data import Data, Split
from whatwhere.errors import InputError
from whatwhere.intervals import binomial
from whatwhere.need.studies.scored import score_of
from whatwhere.network import Network, grey
from whatwhere.training.evaluate import Evaluation, evaluate, evaluate_among
from whatwhere.training.fit import fit
from whatwhere.training.recipes import recipes

MakeSplit = Callable[..., Split]
MakeNet = Callable[..., Network]


@pytest.mark.parametrize("batch_size", [1, 4, 22, 100])
def test_it_is_the_loop_over_pictures(pictures: MakeSplit, small_net: MakeNet, batch_size: int) -> None:
    net, split = small_net(), pictures()
    found = evaluate(net, split, batch_size=batch_size)
    net.module.eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.preprocessing.mean, net.preprocessing.std))
    images, _ = next(split.batches(22))
    right, loss = [], 0.0
    for i, label in enumerate(split.labels.tolist()):
        with torch.no_grad():
            scores = net.module((images[i : i + 1].float() / 255 - mean) / std)[0].tolist()
        right.append(max(range(3), key=scores.__getitem__) == label)
        loss -= torch.log_softmax(torch.tensor(scores), 0)[label].item()
    assert found.correct.tolist() == right
    assert 0 < sum(right) < 22
    assert found.accuracy == pytest.approx(sum(right) / 22)
    assert found.loss == pytest.approx(loss / 22, rel=1e-5)
    assert found.n == 22


def test_the_interval_is_exact() -> None:
    found = Evaluation(torch.tensor([True] * 30 + [False] * 10), 0.5)
    expected = stats.binomtest(30, 40).proportion_ci(0.95, method="exact")
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.interval == binomial(30, 40)
    assert str(found) == "75.00 % [58.80, 87.31] of 40 pictures"
    assert repr(found) == "<Evaluation: 75.00 % [58.80, 87.31] of 40 pictures>"


def test_data_means_its_test_split_and_a_module_will_do(pictures: MakeSplit, small_net: MakeNet) -> None:
    train, test, module = pictures(10), pictures(12, seed=1), small_net().module
    found = evaluate(module, Data("both", {"train": train, "test": test}))
    assert found.n == 12
    assert torch.equal(found.correct, evaluate(Network(module), test).correct)


@pytest.mark.parametrize("fails", [False, True])
def test_flags_and_random_state_come_back(pictures: MakeSplit, small_net: MakeNet, fails: bool) -> None:
    class Drawing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if fails:
                raise ZeroDivisionError
            return x + torch.rand(1)

    net = small_net()
    module = nn.Sequential(Drawing(), *net.module.children()).train()
    module[2].eval()  # one flag that differs from its parent's
    flags, weights = [m.training for m in module.modules()], [t.clone() for t in module.state_dict().values()]
    state = torch.get_rng_state()
    if fails:
        with pytest.raises(ZeroDivisionError):
            evaluate(module, pictures())
    else:
        evaluate(module, pictures())
    assert [m.training for m in module.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, module.state_dict().values(), strict=True))
    assert all(p.grad is None for p in module.parameters())
    assert torch.is_grad_enabled()


def test_pictures_without_labels(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.raises(InputError, match="have no labels; accuracy needs them"):
        evaluate(small_net(), pictures(labelled=False))


def test_scores_of_another_shape(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.raises(InputError, match=r"scores of shape \(22, 4, 6, 6\); expected \(N, classes\)"):
        evaluate(Network(small_net().module[:3], small_net().preprocessing), pictures())  # type: ignore[index]


def test_too_few_scores(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.raises(InputError, match="label 4, but the network gives 3 scores; load the model with classes="):
        evaluate(small_net(), pictures(classes=5))
    assert evaluate(small_net(classes=5), pictures()).n == 22  # too many are fine


class Giving(nn.Module):
    """Gives its scores in something else."""

    def __init__(self, module: nn.Module, pack: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.module, self.pack = module, pack

    def forward(self, x: torch.Tensor) -> Any:
        return self.pack(self.module(x))


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (lambda y: (y, y), "tuple of length 2"),
        (lambda y: {"out": y, "aux": y}, "dict with out, aux"),
        (lambda y: None, "NoneType"),
    ],
)
def test_a_network_that_gives_no_tensor(
    pictures: MakeSplit, small_net: MakeNet, pack: Callable[[torch.Tensor], Any], kind: str
) -> None:
    net = Network(Giving(small_net().module, pack), small_net().preprocessing)
    with pytest.raises(InputError, match=rf"of type {kind}; expected a tensor of scores \(N, classes\)\. Wrap it in"):
        evaluate(net, pictures())


def test_more_scores_than_classes_are_warned_of(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.warns(UserWarning, match=r"gives 7 scores, the data has 3 classes \(0, …\)"):
        evaluate(small_net(classes=7), pictures())


@pytest.mark.parametrize(
    ("own", "fits"),
    [
        ("abc", True),
        ("abcd", True),
        ("xyz", True),  # other words, perhaps for the same
        ("acb", False),
        ("xab", False),
        ("aac", True),  # a name twice says nothing, as some of ImageNet's
    ],
)
def test_classes_of_another_order_are_refused(pictures: MakeSplit, small_net: MakeNet, own: str, fits: bool) -> None:
    """Every picture of them would be wrong, however good the network is."""
    net, split = replace(small_net(), classes=tuple(own)), pictures()
    split.classes = ("a", "b", "c")
    once = replace(recipes["fast"], epochs=1, batch_size=8)
    asked = (
        lambda: evaluate(net, split),
        lambda: score_of(None, split, net, "data"),
        lambda: fit(net, split, once, device="cpu"),
    )
    for ask in asked:
        if fits:
            ask()
            continue
        with pytest.raises(
            InputError, match=r"class '[abc]' is number \d of the pictures' 3 classes, and number \d of"
        ):
            ask()


def test_a_name_is_no_pictures(small_net: MakeNet) -> None:
    with pytest.raises(InputError, match=r"data='digits': give pictures, such as ww\.load_data\('digits'\)"):
        evaluate(small_net(), "digits")  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"train='digits': give pictures: ww\.load_data\('digits'\)\.train"):
        fit(small_net(), "digits", recipes["fast"])  # type: ignore[arg-type]


def test_a_single_class_is_refused(pictures: MakeSplit, small_net: MakeNet) -> None:
    split = pictures()
    alone = Split("test", split.source, torch.zeros(22), ("cat",))
    with pytest.raises(InputError, match="data has one class, 'cat', which any network gets right; give two or more"):
        evaluate(small_net(), alone)


def test_weights_and_scores_that_are_not_finite_give_no_accuracy(pictures: MakeSplit, small_net: MakeNet) -> None:
    net, split = small_net(), pictures()
    broken = next(n for n, _ in net.module.named_parameters())
    net.module.get_parameter(broken).data.view(-1)[0] = torch.nan
    with pytest.raises(InputError, match=f"net: {broken} holds NaN"):
        evaluate(net, split)

    class Overflows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) / 0

    with pytest.raises(InputError, match="scores that are NaN or infinite, for 22 of 22 pictures"):
        evaluate(Network(Overflows()), split)


def test_pictures_become_grey_for_a_network_of_one_channel(pictures: MakeSplit) -> None:
    seen = []

    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return self.conv(x).mean((2, 3))

    evaluate(Network(Grey()), pictures(), batch_size=100)
    images, _ = next(pictures().batches(100))
    assert torch.allclose(seen[-1], (grey(images).float() / 255 - 0.5) / 0.5, atol=1e-6)


def test_a_network_that_does_not_run_on_the_pictures_is_explained(pictures: MakeSplit) -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 3, 99), nn.Flatten()))
    with pytest.raises(InputError, match=r"does not run on a picture of shape \(3, .*Kernel size"):
        evaluate(net, pictures())


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_network_is_evaluated_as_the_plain_one(pictures: MakeSplit, small_net: MakeNet) -> None:
    """Nothing looks into it here; sites and interventions refuse it."""
    net, split = small_net(), pictures()
    scripted = replace(net, module=torch.jit.trace(net.module.eval(), torch.zeros(1, *split.shape())))
    assert torch.equal(evaluate(scripted, split).correct, evaluate(net, split).correct)


def test_among_the_highest_scores_ties_go_to_the_first_class(pictures: MakeSplit) -> None:
    class Told(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([3.0, 1.0, 1.0]).repeat(len(x), 1)

    split, net = pictures(), Network(Told())
    found = evaluate_among(net, split, 2)
    assert found.correct.tolist() == [int(label) in (0, 1) for label in split.labels]
    assert evaluate_among(net, split, 1).correct.tolist() == evaluate(net, split).correct.tolist()
    with pytest.raises(InputError, match="gives 3 scores, of which the highest 3 hold any label"):
        evaluate_among(net, split, 3)
