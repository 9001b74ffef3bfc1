"""The networks of the Red-Green test by their shapes and by shifts, and how one of them is trained."""

import numpy as np
import torch

from whatwhere.hold.studies.red_green_data import draw_blocks
from whatwhere.hold.studies.red_green_worker import PADDINGS, RedGreenWorker, hits, red_green_net

run_cell = RedGreenWorker("cpu")


def blocks(n=400, seed=0):
    return draw_blocks(n, np.random.default_rng(seed))


def test_networks_pad_as_their_names_say():
    sizes = {"none": 2, "zeros": 4, "circular": 4, "f-conv": 6, "reflect": 4, "replicate": 4}
    for name in PADDINGS:
        net = red_green_net(name)
        assert net[:8](torch.zeros(1, 3, 32, 32)).shape == (1, 64, sizes[name], sizes[name]), name
        assert sum(p.numel() for p in net.parameters()) == 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 64 * 2 + 2
    same = [red_green_net(p, seed=3)[0].weight for p in PADDINGS]
    assert all(torch.equal(w, same[0]) for w in same), "rows differ in their padding only"


@torch.no_grad()
def test_circular_scores_are_the_same_for_moved_pictures_and_valid_ones_are_not():
    drawn = blocks(40)
    moved = {
        p: (red_green_net(p)(drawn.pictures()) - red_green_net(p)(drawn.moved().pictures())).abs().max()
        for p in ("circular", "none")
    }
    assert moved["circular"] < 1e-6
    assert moved["none"] > 1e-4


def test_a_cell_gives_the_same_numbers_again():
    config = {"padding": "zeros", "seed": 1, "epochs": 2, "pictures": [200, 20, 40]}
    assert run_cell(config) == run_cell(config)


def test_hits_of_both_sets_are_paired():
    r = run_cell({"padding": "none", "seed": 0, "epochs": 1, "pictures": [200, 20, 40]})
    assert r["similar"] - r["dissimilar"] == r["similar_only"] - r["dissimilar_only"]
    assert r["n"] == 40


def test_training_goes_back_to_the_best_epoch(monkeypatch):
    losses = iter([0.5, 0.2, 0.9, 0.8])
    monkeypatch.setattr("whatwhere.hold.studies.red_green_worker._loss", lambda net, batches: next(losses))
    r = run_cell({"padding": "none", "seed": 0, "epochs": 4, "pictures": [200, 20, 40]})
    assert (r["epochs"], r["best_epoch"], r["validation_loss"]) == (4, 2, 0.2)
    monkeypatch.undo()
    two = run_cell({"padding": "none", "seed": 0, "epochs": 2, "pictures": [200, 20, 40]})
    assert (r["similar"], r["train_accuracy"]) == (two["similar"], two["train_accuracy"])


def test_hits_are_picture_by_picture_whatever_the_batches():
    drawn, net = blocks(450), red_green_net("zeros", seed=2)
    with torch.no_grad():
        scores = torch.cat([net(x[None]) for x in drawn.pictures()[::50]])
    assert torch.equal(hits(net, drawn)[::50], (scores[:, 1] > scores[:, 0]).long() == drawn.targets()[::50])


def test_a_network_leaves_the_global_draws_alone():
    before = torch.get_rng_state()
    red_green_net("none", seed=5)
    assert torch.equal(torch.get_rng_state(), before)
