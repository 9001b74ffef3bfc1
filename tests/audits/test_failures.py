"""Pictures that come out wrong: those of a network whose failures are known."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from small_audit import pictures
from whatwhere.audits.failures import Shuffled, as_png, failures, gallery, of_png
from whatwhere.data import Split
from whatwhere.data.drawn_boxes import drawn_boxes
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

SIZE = (32, 48)
PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), source="none")


class Upper(nn.Module):
    """Whether the upper half is brighter than the lower."""

    def __init__(self):
        super().__init__()
        self.see = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.see.weight)
        self.see.weight.data[0, :, 1, 1] = 1 / 3

    def forward(self, x):
        upper, lower = self.see(x).chunk(2, 2)
        difference = upper.mean((1, 2, 3)) - lower.mean((1, 2, 3))
        return torch.stack([-difference, difference], 1)


@pytest.fixture(scope="module")
def halves():
    """16 pictures, half of them bright above; the first two are labelled wrong."""
    images = torch.full((16, 3, 8, 8), 20, dtype=torch.uint8)
    labels = torch.arange(16) % 2
    images[labels == 1, :, :4] += 200
    images[labels == 0, :, 4:] += 200
    labels[:2] = 1 - labels[:2]
    return Split("test", Memory(images), labels, ["below", "<b>above"])


def found_in(split, most=16):
    net = ww.Network(Upper().eval(), PLAIN, "upper", (3, 8, 8))
    return failures(Shuffled(net, "see", "at see"), split, most), net


def test_those_labelled_wrong_and_those_that_turn(halves):
    found, net = found_in(halves)
    images, labels = next(halves.batches(16))
    assert found["pictures"] == 16
    assert found["wrong"] == 2
    wrong = [s for s in found["shown"] if s["group"].startswith("Wrong from the start: 2 of 16")]
    assert [s["caption"] for s in wrong] == ["<b>above; said: below", "below; said: <b>above"]
    # Independently: the same draw, picture by picture in the same batches.
    turned = 0
    for start in (0, 8):
        x = net.prepared(images[start : start + 8])
        with ww.need.shuffle(net, "see", scope="sample", seed=0):
            after = net.module(x).argmax(1)
        truth = labels[start : start + 8]
        turned += int(((net.module(x).argmax(1) == truth) & (after != truth)).sum())
    assert found["turned"] == turned
    assert 0 < turned < 14


def test_pictures_are_shown_as_they_are(halves):
    found, _ = found_in(halves)
    images = next(halves.batches(16))[0]
    wrong = next(s for s in found["shown"] if s["group"].startswith("Wrong"))
    assert np.array_equal(of_png(wrong["png"]), images[0].permute(1, 2, 0).numpy())


def test_without_labels_the_network_is_asked_itself():
    found, _ = found_in(pictures(8, labels=False).test)
    assert found["wrong"] == 0


def test_scenes_show_maps_and_their_colours():
    scenes = drawn_streets(train=1, validation=1, test=2, size=SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, stride=4), nn.Conv2d(4, len(scenes.classes), 3, padding=1))
    net = ww.Network(layers.eval(), PLAIN, "net", (3, *SIZE))
    found = failures(Shuffled(net, "1", "at 1"), scenes.test, 2)
    assert [s["caption"].partition(":")[0] for s in found["shown"][:4]] == [
        "the picture",
        "as labelled",
        "as it is said",
        "shuffled",
    ]
    assert len(found["shown"]) == 8
    shown = gallery(found)
    assert list(shown.legend) == list(scenes.classes)


def test_scenes_that_lose_most_are_shown_first():
    """Against the same draws picture by picture: the share of pixels that are right, before minus after."""
    scenes = drawn_streets(train=1, validation=1, test=5, size=SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, len(scenes.classes), 3, padding=1)).eval()
    net = ww.Network(module, PLAIN, "net", (3, *SIZE))
    lost = []
    for picture, labels in scenes.test.batches(1):
        x = net.prepared(picture)
        with torch.no_grad(), ww.need.shuffle(net, "1", scope="sample", seed=0):
            after = module(x).argmax(1)
        right = [(said == labels)[labels != 255].float().mean().item() for said in (module(x).argmax(1), after)]
        lost.append(tuple(f"{100 * share:.0f}" for share in right))
    expected = sorted(lost, key=lambda pair: int(pair[1]) - int(pair[0]))[:3]
    assert len({int(a) - int(b) for a, b in lost}) > 1
    captions = [s["caption"] for s in failures(Shuffled(net, "1", "at 1"), scenes.test, 5)["shown"]]
    shown = [tuple(re.search(r"(\d+) %", c)[1] for c in captions[i + 2 : i + 4]) for i in range(0, 12, 4)]
    assert [int(a) - int(b) for a, b in shown] == [int(a) - int(b) for a, b in expected]


def test_nothing_wrong_nothing_shown():
    assert gallery({"pictures": 4, "turned": 0, "wrong": 0, "shown": []}) is None


def test_other_answers_are_refused():
    boxes = drawn_boxes(train=1, test=2)
    with pytest.raises(InputError, match="not of boxes"):
        found_in(boxes.test)
    net = ww.Network(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1)).eval(), PLAIN, "maps", (3, 8, 8))
    with pytest.raises(InputError, match="scores"):
        failures(Shuffled(net, "0", "at 0"), pictures(2).test, 2)


def test_photographs_are_made_smaller_and_label_maps_keep_their_colours():
    draws = torch.Generator().manual_seed(0)
    photograph = torch.randint(0, 255, (100, 200, 3), generator=draws, dtype=torch.uint8).numpy()
    assert of_png(as_png(photograph)).shape == (48, 96, 3)
    two = np.zeros((100, 200, 3), np.uint8)
    two[:, 100:] = (128, 64, 128)
    kept = of_png(as_png(two)).reshape(-1, 3)
    assert {tuple(map(int, c)) for c in kept} == {(0, 0, 0), (128, 64, 128)}
