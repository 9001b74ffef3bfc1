"""Pictures with numbers: served in any order, drawn, told apart, refused; and a curve of R²."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.data.numbers import NumberSplit, check_numbers, numbered
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError


def pairs(n: int = 12) -> list[tuple[torch.Tensor, float]]:
    """The number is the mean of a picture's left half minus that of its right half."""
    g = torch.Generator().manual_seed(0)
    made = [torch.rand(3, 8, 8, generator=g) * torch.linspace(i / n, 1 - i / n, 8) for i in range(n)]
    return [(x, float(x[..., :4].mean() - x[..., 4:].mean())) for x in made]


def test_numbers_follow_their_pictures():
    split = numbered(pairs()).test
    order = torch.tensor([5, 0, 7])
    served = list(split.batches(2, order=order))
    assert [len(n) for _, n in served] == [2, 1]
    for row, image, number in zip(
        order, torch.cat([x for x, _ in served]), torch.cat([n for _, n in served]), strict=True
    ):
        assert torch.equal(image, pairs()[row][0])
        assert float(number) == pytest.approx(pairs()[row][1])
    few = split.take(4)
    assert isinstance(few, NumberSplit)
    assert few.numbers.flatten().tolist() == [n for n in split.numbers.flatten().tolist() if n in few.numbers.flatten()]
    assert len(few) == 4
    assert split.take(99) is split
    assert split.comes_with == "numbers"


def test_other_numbers_are_another_split():
    one, other = pairs(), pairs()
    other[3] = (other[3][0], 9.0)
    assert numbered(one).test.fingerprint == numbered(pairs()).test.fingerprint != numbered(other).test.fingerprint


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(torch.zeros(3, 2, 2), "x")], "row 0 of the list has 'x'; give a number"),
        ([(torch.zeros(3, 2, 2), float("nan"))], "row 0 of the list: its number is NaN"),
        ([(torch.zeros(3, 2, 2), [1.0]), (torch.zeros(3, 2, 2), [1.0, 2.0])], r"come with \[1, 2\] numbers"),
        ([], "split 'test' is empty"),
    ],
)
def test_what_is_no_number_is_refused(items, message):
    with pytest.raises(InputError, match=message):
        numbered(items)
    with pytest.raises(InputError, match="n=0"):
        numbered(pairs()).test.take(0)


class Halves(nn.Module):
    """Knows the answer: a fixed convolution as wide as the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 8, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(3)[..., None, None])
            self.first.bias.zero_()
            self.last.weight.copy_((torch.arange(8) < 4).float().mul(2).sub(1).expand(1, 3, 8, 8) / 96)

    def forward(self, x):
        return self.last(self.first(x)).flatten(1)


@pytest.mark.parametrize(("score", "intact"), [("r2", 1.0), ("mae", 0.0)])
def test_a_network_that_reads_an_arrangement_needs_where(score, intact):
    data, net = numbered(pairs()), Halves()
    found = ww.need.curve(net, data, score=score, sites="last", methods="mean", within=None, quiet=True)
    assert found.intact[0].score.mean == pytest.approx(intact, abs=1e-5)
    (p,) = found.points
    wanted = data.test.numbers.flatten()  # without the arrangement the prediction is 0
    lost = (
        1 - (1 - float((wanted**2).sum() / ((wanted - wanted.mean()) ** 2).sum()))
        if score == "r2"
        else float(wanted.abs().mean())
    )
    assert p.drop is not None
    assert p.drop.mean == pytest.approx(lost, abs=1e-4)


@pytest.mark.parametrize(
    ("numbers", "varied", "said"),
    [
        ([[1.0]], False, "data: there is 1 picture"),
        ([[1.0, 2.0], [3.0, 2.0]], True, "number 1 is 2 for all 2 pictures"),
    ],
)
def test_numbers_that_say_nothing_are_refused(numbers, varied, said):
    given = NumberSplit("test", Memory(torch.zeros(len(numbers), 3, 2, 2, dtype=torch.uint8)), torch.tensor(numbers))
    with pytest.raises(InputError, match=said):
        check_numbers(given, "data", varied=varied)


def test_numbers_that_differ_are_taken():
    given = NumberSplit("test", Memory(torch.zeros(2, 3, 2, 2, dtype=torch.uint8)), torch.tensor([[1.0], [2.0]]))
    check_numbers(given, "data", varied=True)
    check_numbers(given, "data", varied=False)
    same = NumberSplit("test", Memory(torch.zeros(2, 3, 2, 2, dtype=torch.uint8)), torch.ones(2, 1))
    check_numbers(same, "data", varied=False)  # an absolute error is one all the same
