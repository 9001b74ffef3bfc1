"""Wrong calls of every instrument of this wing: each is refused in one line that names what was given."""

import math

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_segmenter import small_segmenter
from whatwhere.errors import InputError
from whatwhere.say import concept_counts as counting
from whatwhere.say import confidence, heads, inspect, leakage, selective
from whatwhere.say.checked import finite, shaped, whole, within
from whatwhere.say.concepts import Combined, Merged, Named, Selected
from whatwhere.say.failures import FailureCounts, nearby
from whatwhere.say.heads import Pixels
from whatwhere.say.inspect import Overlap
from whatwhere.say.layer import Bottleneck, layer_of
from whatwhere.say.pixel_concepts import Colours, Positions, Textures
from whatwhere.say.selective import Levels
from whatwhere.say.tail import Tail

NAN = float("nan")
PICTURE = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = {"class": torch.arange(72).view(8, 9) % 3}
SOURCE = Combined([Colours(), Positions()])
COUNTS = counting.concept_counts(SOURCE, [(PICTURE, LABELS)], ("a", "b", "c"))
SEEN = selective.levels([0.9, 0.8, 0.3], [1, 1, 0])
ONE = torch.arange(9) % 2 == 0
NONE = torch.zeros(9, dtype=torch.int64)


def narrow(concepts, site="middle", size=(3, 16, 16), **options):
    return ww.say.bottleneck(small_segmenter(4), site, concepts, input_size=size, **options)


def places(p=50, c=5, k=3, bad=False) -> Pixels:
    g = torch.Generator().manual_seed(0)
    features = torch.randn(p, c, generator=g)
    if bad:
        features[0, 0] = NAN
    return Pixels(features, torch.randint(0, 2, (p, k), generator=g).float())


def fitted(k=2):
    g = torch.Generator().manual_seed(0)
    return confidence.ConfidenceModel.fit(torch.randn(9, k, generator=g), NONE, ONE, classes=1)


def failures(maps=None, said=0, targets=None):
    maps = torch.zeros(1, 1, 2, 2) if maps is None else maps
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    return FailureCounts(2, 1).update(maps, labels + said, labels, targets)


WRONG = {
    "concepts=2.5": lambda: narrow(2.5),
    "concepts=0 with 0 names": lambda: narrow(0),
    "concepts=True": lambda: narrow(True),
    "concepts=None": lambda: narrow(None),
    "names: 'a' is given twice": lambda: narrow(["a", "a"]),
    "names: 1 is given twice, or is not text": lambda: narrow([1, 2]),
    "site='3'": lambda: narrow(2, site=3),
    "options='foo' matches nothing": lambda: narrow(2, foo=1),
    r"input_size=\(3, 16\)": lambda: narrow(2, size=(3, 16)),
    r"input_size=\(3, 0, 16\)": lambda: narrow(2, size=(3, 0, 16)),
    r"shape \(4, 16, 16\).*give such pictures, or input_size=\(3, 16, 16\)": lambda: narrow(2, size=(4, 16, 16)),
    "activation='relu'": lambda: narrow(2, activation="relu"),
    "group=2 must be at least 2 and divide concepts=3": lambda: narrow(3, activation="softmax", group=2),
    "channels=0": lambda: Bottleneck(0, 2),
    "concepts=1.5": lambda: Bottleneck(3, 1.5),
    "the network has 0 bottlenecks": lambda: layer_of(small_segmenter(4)),
    "features hold 1 values that are not finite": lambda: heads.fit_heads(Bottleneck(5, 3), places(bad=True)),
    "features hold 1 values": lambda: heads.fit_heads(Bottleneck(5, 3), places(), places(bad=True)),
    r"targets: shape \(50, 3\); give a tensor \(50, 2\)": lambda: heads.fit_heads(Bottleneck(5, 2), places()),
    r"features: shape \(50, 5\); give a tensor \(P, 4\)": lambda: heads.fit_heads(Bottleneck(4, 3), places()),
    r"targets: shape \(9, 3\); give": lambda: heads.fit_heads(
        Bottleneck(5, 3), Pixels(torch.randn(10, 5), torch.zeros(9, 3))
    ),
    "penalty=-1.0": lambda: heads.fit_heads(Bottleneck(5, 3), places(), penalty=-1.0),
    "steps=0": lambda: heads.fit_heads(Bottleneck(5, 3), places(), steps=0),
    "features are the same at all 50 places": lambda: heads.fit_heads(
        Bottleneck(5, 3), Pixels(torch.ones(50, 5), places().targets)
    ),
    "n=0": lambda: heads.drawn_pixels(torch.rand(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), 0, torch.Generator()),
    "targets: shape": lambda: heads.drawn_pixels(torch.rand(1, 2, 3, 3), torch.zeros(1, 2, 4, 3), 1, torch.Generator()),
    "maps hold 27 values": lambda: heads.reconstruct(Bottleneck(5, 3), torch.full((9, 3), NAN), torch.rand(9, 5)),
    "penalty=-2.0": lambda: heads.reconstruct(Bottleneck(5, 3), torch.rand(9, 3), torch.rand(9, 5), -2.0),
    "penalty=0.0: maps follow": lambda: heads.reconstruct(Bottleneck(5, 3), torch.ones(9, 3), torch.rand(9, 5), 0.0),
    "maps: shape": lambda: heads.reconstruct(Bottleneck(5, 3), torch.rand(8, 3), torch.rand(9, 5)),
    "features: places=0": lambda: heads.reconstruct(Bottleneck(5, 3), torch.rand(0, 3), torch.rand(0, 5)),
    "features hold 45": lambda: heads.principal(Bottleneck(5, 3, "linear"), torch.full((9, 5), NAN)),
    "activation='sigmoid': principal": lambda: heads.principal(Bottleneck(5, 3), torch.rand(9, 5)),
    "features: 3 places span": lambda: heads.principal(Bottleneck(5, 3, "linear"), torch.rand(3, 5)),
    "seed=1.5": lambda: heads.orthonormal(Bottleneck(5, 3), 1.5),
    "seed=-1": lambda: heads.orthonormal(Bottleneck(5, 3), -1),
    r"features: shape \(4, 6\)": lambda: heads.maps_at(Bottleneck(5, 3), torch.rand(4, 6)),
    r"size=\(0, 8\)": lambda: heads.shares_of(torch.zeros(1, 1, 4, 4), (0, 8)),
    r"size=\(8, 0\)": lambda: heads.at_cells(torch.zeros(1, 1, 4, 4), (8, 0)),
    "thresholds hold 2 values": lambda: Overlap(2, 1, torch.full((2, 1), NAN)),
    "concepts=0: give": lambda: Overlap(2, 0, torch.zeros(2, 1)),
    "update: no pixel": lambda: Overlap(2, 1, torch.zeros(2, 1)).matched(Overlap(2, 1, torch.zeros(2, 1)).best()),
    "targets: torch.float32": lambda: Overlap(1, 1, torch.zeros(1, 1)).update(
        torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)
    ),
    r"shares=\(\)": lambda: inspect.thresholds_of(torch.rand(1, 2, 3, 3), ()),
    "activations hold 18": lambda: inspect.thresholds_of(torch.full((1, 2, 3, 3), NAN)),
    r"activations: shape \(0, 2, 3, 3\)": lambda: inspect.thresholds_of(torch.zeros(0, 2, 3, 3)),
    r"activations: shape \(3,\)": lambda: inspect.thresholds_of(torch.zeros(3)),
    "points=0": lambda: inspect.inspectability_curve(torch.rand(3), points=0),
    "iou: from nan": lambda: inspect.auic(torch.full((3,), NAN)),
    "iou: from 5 to 5": lambda: inspect.auic(torch.full((3,), 5.0)),
    "bits=2.5": lambda: selective.levels([0.1], [1], bits=2.5),
    "correct holds int64": lambda: selective.levels([0.1, 0.2], [2, 7]),
    "correct holds <U1": lambda: selective.levels([0.1, 0.2], ["a", "b"]),
    "accuracy=99": lambda: selective.threshold_for(99, SEEN),
    "accuracy=nan": lambda: selective.threshold_for(NAN, SEEN),
    "threshold=nan": lambda: selective.at_threshold(NAN, SEEN),
    "bins=0": lambda: selective.calibration_error(SEEN, 0),
    "bins=1.5": lambda: selective.calibration_error(SEEN, 1.5),
    "parts is empty": lambda: selective.aligned([]),
    "levels: there is no pixel": lambda: Levels(np.zeros(0), np.zeros(0, int), np.zeros(0, int)),
    "temperature=0": lambda: confidence.max_softmax(torch.rand(4, 3), 0),
    "temperature=-1.0": lambda: confidence.entropy(torch.rand(4, 3), -1.0),
    "logits hold values that are not numbers": lambda: confidence.max_softmax(torch.full((4, 3), NAN)),
    "logits: 1 class": lambda: confidence.entropy(torch.rand(4, 1)),
    "logits hold 12 values": lambda: confidence.temperature(torch.full((4, 3), NAN), NONE[:4]),
    "labels: there is 7, and 3 logits": lambda: confidence.temperature(torch.rand(4, 3), NONE[:4] + 7),
    "penalty=inf": lambda: confidence.ConfidenceModel.fit(torch.rand(9, 2), NONE, ONE, classes=1, penalty=math.inf),
    "predicted: 5 to 5; classes=1": lambda: fitted()(torch.rand(9, 2), NONE + 5),
    r"concepts: shape \(9, 4\)": lambda: fitted()(torch.rand(9, 4), NONE),
    "concepts hold 18": lambda: fitted()(torch.full((9, 2), NAN), NONE),
    "names: 1, predicted=0; give 2 names": lambda: fitted().ranked(["a"]),
    "names: 2, predicted=7": lambda: fitted().ranked(["a", "b"], 7),
    "maps hold 4 values": lambda: failures(torch.full((1, 1, 2, 2), NAN)),
    "said: 5 to 5; classes=2": lambda: failures(said=5),
    r"targets \(1, 3, 2, 2\)": lambda: failures(targets=torch.zeros(1, 3, 2, 2)),
    "classes=0": lambda: FailureCounts(0, 1),
    "least=0": lambda: FailureCounts(2, 1).ranked(least=0),
    "cells=-1": lambda: nearby(torch.zeros(1, 1, 3, 3), -1),
    "threshold=5.0": lambda: leakage.binarised(torch.rand(2, 3), 5.0),
    "maps hold 6 values": lambda: leakage.binarised(torch.full((2, 3), NAN)),
    "order: .* is not a permutation": lambda: leakage.permuted(torch.rand(2, 3), torch.tensor([0.0, 1.0, 2.0])),
    "value=nan": lambda: leakage.dropped(torch.rand(2, 3), 1, NAN),
    "k=1.5": lambda: leakage.dropped(torch.rand(2, 3), 1.5, 0.0),
    r"groups\['v'\]='car'": lambda: Merged({"v": "car"}, ("car", "bus")),
    r"groups=\['car'\]": lambda: Merged(["car"], ("car", "bus")),
    "names='abc'": lambda: Named("abc"),
    "names='colour: red'": lambda: Selected(SOURCE, "colour: red"),
    "window=0": lambda: Textures(0),
    "window=nan": lambda: Textures(NAN),
    r"picture: torch.float32, shape \(3, 4, 4\)": lambda: Colours()(torch.rand(3, 4, 4), {}),
    r"picture: torch.uint8, shape \(1, 8, 9\)": lambda: Textures()(PICTURE[:1], {}),
    "'class' holds torch.float32": lambda: Merged({"v": ["a"]}, "abc")(PICTURE, {"class": torch.rand(8, 9)}),
    "share=1.5": lambda: counting.select(SOURCE, counts=COUNTS, share=1.5),
    "pictures=-1": lambda: counting.select(SOURCE, counts=COUNTS, pictures=-1),
    "bits=nan": lambda: counting.select(SOURCE, counts=COUNTS, bits=NAN),
    r"names=\[\]": lambda: counting.select(SOURCE, names=[]),
    r"names='colour: \*'": lambda: counting.select(SOURCE, names="colour: *"),
    "counts: from -1": lambda: counting.mutual_information(np.array([[-1, 2]])),
    r"example: shape \(3, 16, 16\)": lambda: Tail(small_segmenter(4), "middle", torch.zeros(3, 16, 16)),
    "net must be a torch.nn.Module": lambda: Tail("net", "middle", torch.zeros(1, 3, 16, 16)),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_call_is_refused_in_one_line_that_names_what_was_given(message):
    with pytest.raises(InputError, match=message) as refused:
        WRONG[message]()
    assert "\n" not in str(refused.value)


def test_what_is_in_range_passes():
    assert whole("n", 3, 3) == 3
    assert within("share", 1, 0, 1) == 1.0
    assert within("share", 0, 0, 1) == 0.0
    x = torch.rand(4, 2)
    assert shaped("x", x, "P", 2) is x
    finite(x=x, counts=torch.arange(3))
    for value in (2, True, 3.0, None):
        with pytest.raises(InputError, match=r"n=.*at least 3"):
            whole("n", value, 3)
    for value in (-0.1, 1.1, math.inf, True, "1"):
        with pytest.raises(InputError, match="share="):
            within("share", value, 0, 1)
    with pytest.raises(InputError, match="above 0"):
        within("share", 0, 0, 1, open_low=True)
    with pytest.raises(InputError, match=r"x: int; give a tensor \(P, 2\)"):
        shaped("x", 3, "P", 2)
