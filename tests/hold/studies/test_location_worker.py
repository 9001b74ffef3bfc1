"""The worker of the location test: pasting by slow loops, its rows, its training on a few small pictures."""

import pickle

import pytest
import torch

import whatwhere as ww
from whatwhere.hold.permute import PermuteChannels
from whatwhere.hold.studies import location_worker
from whatwhere.hold.studies.location import Location
from whatwhere.hold.studies.location_worker import ROWS, Locate, Pictures, build, paste, run
from whatwhere.training.feed import Feed

OPTIONS = {"grid": 2, "width": 0.25, "pictures": 24, "test_pictures": 12, "epochs": 1, "batch_size": 8}


def config(row: str, **changes) -> dict:
    recipe = ww.Recipe(epochs=1, batch_size=8, optimizer="adamw", lr=3e-3, crop_padding=0, flip=False)
    plain = {"row": row, "model": "cifar/resnet20", "width": 0.25, "grid": 2, "seed": 0, "recipe": recipe.to_dict()}
    return {**plain, **changes}


def test_a_picture_lies_in_its_square_and_black_elsewhere():
    x, cells = torch.randn(9, 3, 4, 5), torch.tensor([0, 8, 4, 2, 6, 1, 7, 3, 5])
    canvases = paste(x, cells, 3)
    assert canvases.shape == (9, 3, 12, 15)
    for i in range(9):
        row, column = int(cells[i]) // 3, int(cells[i]) % 3
        for r in range(3):
            for c in range(3):
                seen = canvases[i, :, 4 * r : 4 * r + 4, 5 * c : 5 * c + 5]
                assert torch.equal(seen, x[i] if (r, c) == (row, column) else torch.zeros(3, 4, 5))


@torch.no_grad()
def test_circular_padding_cannot_distinguish_squares_and_zero_padding_can():
    x = torch.randn(1, 3, 8, 8)
    canvases = paste(x.expand(4, -1, -1, -1), torch.arange(4), 2)
    spread = {}
    for row in ("circular", "zeros"):
        net = build(config(row), (3, 8, 8)).module.eval()
        torch.manual_seed(0)
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):  # zero biases would keep black at 0, as padding is
                m.bias.normal_()
        scores = net(canvases)
        spread[row] = float((scores - scores[0]).abs().max() / scores.abs().max())
    assert spread["circular"] < 1e-5
    assert spread["zeros"] > 1e-3


def test_rows_build_what_they_say():
    nets = {row: build(config(row), (3, 8, 8)).module for row in ROWS}
    modes = {
        row: {m.padding_mode for m in n.modules() if getattr(m, "kernel_size", None) == (3, 3)}
        for row, n in nets.items()
    }
    assert modes["circular"] == {"circular"}
    assert modes["permute"] == modes["shuffled"] == modes["zeros"] == {"zeros"}
    permuting = {row for row, n in nets.items() if any(isinstance(m, PermuteChannels) for m in n.modules())}
    assert permuting == {"permute"}
    assert all(torch.equal(n.conv1.weight, nets["zeros"].conv1.weight) for n in nets.values())


def drawn(shuffled: bool = False, n: int = 16, epochs: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of pictures of one pixel, whose value is their number plus one."""
    task = Locate(ww.Recipe(epochs=1, batch_size=8), 3, shuffled)
    draws, pictures = torch.Generator().manual_seed(0), Pictures(torch.arange(1.0, n + 1).view(n, 1, 1, 1))
    batches = []
    for _ in range(epochs):
        order = torch.randperm(n, generator=draws)
        batches += task.batches(pictures, order, draws, Feed(ww.Preprocessing()))
    return batches


def squares_seen(canvases: torch.Tensor) -> torch.Tensor:
    return canvases.flatten(1).argmax(1)


def test_only_the_control_is_trained_on_other_squares():
    for shuffled in (False, True):
        truth = [squares_seen(x) for x, _ in drawn(shuffled)]
        goals = [y for _, y in drawn(shuffled)]
        assert all(torch.equal(a.sort().values, b.sort().values) for a, b in zip(goals, truth, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(goals, truth, strict=True)) != shuffled


def test_every_epoch_draws_new_squares_for_the_same_pictures():
    found = drawn()
    assert len(found) == 4
    epochs = [torch.cat([c.sum((1, 2, 3)) for c, _ in part]) for part in (found[:2], found[2:])]
    assert all(torch.equal(e.sort().values, torch.arange(1.0, 17.0)) for e in epochs)
    places = [
        {int(v): int(c) for (b, cs) in part for v, c in zip(b.sum((1, 2, 3)), cs, strict=True)}
        for part in (found[:2], found[2:])
    ]
    assert places[0] != places[1]


def test_rows_are_trained_by_the_loop_of_all_trainings_on_their_own_task(monkeypatch):
    seen = {}

    def watched(net, train, recipe, **options):
        seen[row] = (recipe, options["objective"], options["seed"], options["device"])
        return ww.fit(net, train, recipe, **options)

    monkeypatch.setattr(location_worker, "fit", watched)
    for row in ("zeros", "shuffled"):
        run(torch.randn(16, 3, 8, 8), torch.randn(8, 3, 8, 8), config(row), "cpu")
    assert [task.shuffled for _, task, *_ in seen.values()] == [False, True]
    assert all(
        (r.settled, r.channels_last, seed, d) == (0.5, False, 1_000_003, "cpu") for r, _, seed, d in seen.values()
    )


def test_a_cell_gives_the_same_numbers_again():
    pictures = torch.randn(16, 3, 8, 8), torch.randn(16, 3, 8, 8)
    assert run(*pictures, config("permute")) == run(*pictures, config("permute"))


@pytest.mark.slow
def test_a_small_network_learns_the_square_with_zero_padding_and_not_in_the_control():
    torch.manual_seed(0)
    pictures = torch.randn(256, 3, 8, 8), torch.randn(128, 3, 8, 8)
    recipe = ww.Recipe(epochs=6, batch_size=16, optimizer="adamw", lr=3e-3, crop_padding=0, flip=False)
    options = {"recipe": recipe.to_dict(), "width": 0.5}
    found = {row: run(*pictures, config(row, **options))["right"] / 128 for row in ("zeros", "shuffled", "circular")}
    assert found["zeros"] > 0.7
    assert abs(found["shuffled"] - 0.25) < 0.16  # four standard errors of a guess
    assert abs(found["circular"] - 0.25) < 0.16


def test_a_process_prepares_the_pictures_once(tmp_path):
    plan = Location("digits", **OPTIONS).planned()
    worker = plan.worker(ww.Run(tmp_path))
    assert len(worker.train) == 24
    sent = pickle.dumps(worker)
    assert len(sent) < 1000
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert first is second
    assert torch.equal(first.train, worker.train)
