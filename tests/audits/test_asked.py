"""Where an audit asks, and how it would be typed."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from small_audit import need as measured
from small_audit import network, pictures
from whatwhere.audits import asked
from whatwhere.audits.asked import Asked, blocks_of, which, words_of
from whatwhere.audits.study import Audit
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.errors import InputError


def test_a_classifier_is_asked_from_its_cuts_to_the_end():
    found = Asked(Audit(network(), pictures()), ww.Run())
    assert [s.name for s in found.places] == ["0", "2", "4"]
    assert found.reach == "from"


def test_with_few_cuts_every_part_that_mixes_is_asked_alone():
    """A network whose answer joins its first map: nothing behind it is a cut."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            first = self.a(x)
            return self.head((first + self.c(self.b(first))).mean((2, 3)))

    found = Asked(Audit(ww.Network(Joined().eval(), input_size=(3, 8, 8)), pictures()), ww.Run())
    assert [s.name for s in found.places] == ["a", "b", "c"]
    assert found.reach == 1


def test_blocks_are_the_smallest_parts_that_mix_twice():
    """Each spatial convolution lies in one of them, or is one."""
    block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()))
    wide = nn.Sequential(block, nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)))
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), wide, nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1))
    table = ww.sites(net, input_size=(3, 8, 8))
    assert [s.name for s in blocks_of(table)] == ["0", "1.0", "1.1", "3"]


def test_scenes_are_read_as_pictures_alone():
    study = Audit("pspnet/resnet18", drawn_streets(train=2, validation=2, test=3, seed=0))
    found = Asked(study, ww.Run())
    assert (found.is_classifier, found.reach) == (False, 1)
    assert {n: len(s) for n, s in found.pictures.splits.items()} == {"train": 2, "validation": 2, "test": 3}
    assert found.pictures.test.classes == ()
    assert found.held()["classes"] == len(study.data.classes)
    assert "fuse.0" in [s.name for s in found.places]
    with pytest.raises(InputError, match=r"whatwhere say compare --model pspnet/resnet18 --data DATA --sites fuse\.0 "):
        asked._say(found, None)


def test_the_words_of_a_command():
    study = Audit("cifar/vgg11", "digits", weights="w.safetensors", width=0.5)
    assert words_of(study) == [
        "--model",
        "cifar/vgg11",
        "--data",
        "digits",
        "--weights",
        "w.safetensors",
        "--width",
        "0.5",
    ]
    assert words_of(Audit("timm/resnet18", "F", pretrained=True))[-2:] == ["--pretrained", "true"]
    assert words_of(Audit(network(), pictures()))[:4] == ["--model", "MODEL", "--data", "DATA"]


def test_a_network_that_cannot_take_another_padding_is_read_without_it(monkeypatch):
    assert asked._circular(network()) == ("circular",)

    def refused(*_):
        raise InputError("its zeros are written by hand")

    monkeypatch.setattr(asked.hold, "with_padding", refused)
    assert asked._circular(network()) == ()


def test_a_bottleneck_is_offered_where_nothing_goes_past_it(monkeypatch):
    """Of a U-Net that is its head: every block of the decoder gets a skip."""
    study = Audit("smp/unet/resnet18", drawn_streets(train=2, validation=2, test=3, seed=0))
    found = Asked(study, ww.Run())
    tried = [s.name for s in found.places if asked._speaks(found, s)]
    assert "segmentation_head.0" in tried
    assert "encoder.layer2.0" not in tried
    monkeypatch.setattr(asked, "_speaks", lambda *_: "")
    with pytest.raises(InputError, match="a bottleneck fits nowhere"):
        asked._say(found, None)


def test_what_is_trained_is_trained_on_what_was_given(streets, monkeypatch):
    """The studies that would run: their trainings have tests of their own."""
    ran = {}
    monkeypatch.setattr(Asked, "run", lambda self, study, part: ran.update({part: study}) or {"of": part})
    found = asked._use(Asked(Audit("cifar/resnet20", "digits", width=0.25, train=True, epochs=3), ww.Run()), None)
    assert found["trained"] == {"of": "use"}
    assert (ran["use"].model, ran["use"].width, ran["use"].epochs) == ("cifar/resnet20", 0.25, 3)
    assert ran["use"].methods == ("none", "se", "ms_sar")
    data = streets
    scenes = Audit("pspnet/resnet18", data, train=True)
    asked_of = Asked(scenes, ww.Run())
    assert asked._say(asked_of, None) == {"trained": {"of": "say"}}
    assert (ran["say"].sites, ran["say"].data) == (("fuse.0",), data)
    assert ran["say"].model.module is asked_of.net.module  # with the weights that it has


def test_a_network_without_a_name_is_not_trained_anew():
    net = ww.load_model("cifar/resnet20", classes=10, width=0.25)
    found = asked._use(Asked(Audit(net, "digits", train=True), ww.Run()), None)
    assert found["notes"] == [asked.NOT_ANEW]
    assert "trained" not in found


def test_which_pictures_are_asked_and_which_belong_together(streets):
    """Another audit finds its own among them by number; frames of one video are one group."""
    split = streets.test
    assert which(split, len(split)) == {"rows": list(range(len(split)))}
    few = which(split, 3)["rows"]
    assert len(few) == 3
    assert split.only(torch.tensor(few)).fingerprint == split.take(3).fingerprint
    groups = torch.arange(len(split)) // 2
    frames = type(split)(split.name, split.pictures, split.maps, split.classes, groups, split.values)
    assert which(frames, len(split))["groups"] == groups.tolist()


def test_gates_that_cannot_be_trained_leave_what_they_cost(monkeypatch):
    def refused(*_):
        raise InputError("data: there is no train split.")

    monkeypatch.setattr(Asked, "run", refused)
    found = asked._use(Asked(Audit("cifar/resnet20", "digits", width=0.25, train=True), ww.Run()), None)
    assert [row["method"] for row in found["rows"]] == ["none", "se", "ms_sar"]
    assert found["notes"] == ["Gates were not trained: data: there is no train split."]


@pytest.mark.parametrize(
    ("drops", "site"),
    [((0.0, 0.3, 0.5), "s1"), ((0.4, 0.3, 0.5), "s0"), ((0.0, 0.0, 0.0), "2"), (None, "2")],
)
def test_failures_are_shown_where_shuffling_begins_to_cost(tmp_path, drops, site):
    """Counted from the answer; where it costs nothing, or was not measured, in the middle of the places."""
    if drops:
        measured(drops).save(tmp_path / "need")
    assert asked._telling(Asked(Audit(network(), pictures()), ww.Run(tmp_path))) == site
