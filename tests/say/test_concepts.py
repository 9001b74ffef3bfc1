import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.concept_counts import concept_counts, joint_counts, mutual_information, select
from whatwhere.say.concepts import Combined, Merged, Named, Selected, copies_of_classes

CLASSES = ("road", "car", "bus", "sky")
PARTS = ("wheel", "window", "roof")
GROUPS = {"vehicle": ("car", "bus"), "flat": ("road",), "not sky": ("road", "car", "bus")}
PICTURE = torch.zeros(3, 7, 9, dtype=torch.uint8)


def drawn(seed: int, unlabelled: float = 0.2) -> dict[str, torch.Tensor]:
    """Random label maps, some pixels not labelled."""
    rng = np.random.default_rng(seed)
    maps = {}
    for name, size, kind in (("class", 4, torch.uint8), ("part", 3, torch.int16)):
        values = rng.integers(0, size, (7, 9))
        values[rng.random((7, 9)) < unlabelled] = IGNORE
        maps[name] = torch.from_numpy(values).to(kind)
    return maps


def rows(n: int = 4) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    return [(PICTURE, drawn(seed)) for seed in range(n)]


@pytest.mark.parametrize("seed", range(3))
def test_merged_pixel_by_pixel(seed: int) -> None:
    labels = drawn(seed)
    maps = Merged(GROUPS, CLASSES)(PICTURE, labels)
    assert maps.dtype == torch.int8
    for k, members in enumerate(GROUPS.values()):
        for r in range(7):
            for c in range(9):
                value = int(labels["class"][r, c])
                assert int(maps[k, r, c]) == (-1 if value == 255 else int(CLASSES[value] in members))


@pytest.mark.parametrize("seed", range(3))
def test_named_pixel_by_pixel(seed: int) -> None:
    labels = drawn(seed)
    source = Named(PARTS)
    maps = source(PICTURE, labels)
    assert source.names == ("part: wheel", "part: window", "part: roof")
    for k in range(3):
        for r in range(7):
            for c in range(9):
                value = int(labels["part"][r, c])
                assert int(maps[k, r, c]) == (-1 if value == 255 else int(value == k))


def test_another_value_can_mean_not_labelled() -> None:
    labels = {"texture": torch.tensor([[0, 1, 2]], dtype=torch.uint8)}
    maps = Named(("smooth", "rough"), "texture", ignore=2)(PICTURE[:, :1, :3], labels)
    assert maps[:, 0].tolist() == [[1, 0, -1], [0, 1, -1]]


def test_combined_and_selected_keep_maps_and_order() -> None:
    both = Combined([Merged(GROUPS, CLASSES), Named(PARTS)])
    labels = drawn(0)
    maps = both(PICTURE, labels)
    assert both.names == (*GROUPS, "part: wheel", "part: window", "part: roof")
    assert torch.equal(maps, torch.cat([s(PICTURE, labels) for s in both.sources]))
    some = Selected(both, ["part: roof", "flat"])
    assert torch.equal(some(PICTURE, labels), maps[[5, 1]])


def test_a_class_twice_in_a_group_counts_once() -> None:
    source = Merged({"wheeled": ("car", "car")}, CLASSES)
    assert copies_of_classes(source, CLASSES) == {"wheeled": "car"}


def test_copies_of_classes_from_how_the_source_is_made() -> None:
    merged, parts, classes = Merged(GROUPS, CLASSES), Named(PARTS), Named(CLASSES, "class")
    assert copies_of_classes(merged, CLASSES) == {"flat": "road", "not sky": "sky"}
    assert copies_of_classes(parts, CLASSES) == {}
    assert copies_of_classes(classes, CLASSES) == {f"class: {c}": c for c in CLASSES}
    assert copies_of_classes(Combined([merged, parts]), CLASSES) == {"flat": "road", "not sky": "sky"}
    assert copies_of_classes(Selected(merged, ["flat", "vehicle"]), CLASSES) == {"flat": "road"}
    assert copies_of_classes(Merged(GROUPS, CLASSES, map="coarse"), CLASSES) == {}


def test_counts_by_loops() -> None:
    source = Combined([Merged(GROUPS, CLASSES), Named(PARTS)])
    counts = concept_counts(source, rows(), CLASSES)
    present, labelled, pictures, joint = (
        [0] * 6,
        [0] * 6,
        [set[int]() for _ in range(6)],
        np.zeros((6, 2, 4), dtype=int),
    )
    for number, (picture, labels) in enumerate(rows()):
        maps = source(picture, labels).tolist()
        for k in range(6):
            for r in range(7):
                for c in range(9):
                    state, value = maps[k][r][c], int(labels["class"][r, c])
                    labelled[k] += state != -1
                    present[k] += state == 1
                    if state == 1:
                        pictures[k].add(number)
                    if state != -1 and value != 255:
                        joint[k, state, value] += 1
    assert counts.present.tolist() == present
    assert counts.labelled.tolist() == labelled
    assert counts.pictures.tolist() == [len(p) for p in pictures]
    assert counts.joint.tolist() == joint.tolist()
    assert counts.seen == 4
    assert counts.share.tolist() == pytest.approx([p / n for p, n in zip(present, labelled, strict=True)])


def test_bits_are_those_of_scikit_learn() -> None:
    source = Named(PARTS)
    counts = concept_counts(source, rows(), CLASSES)
    for k in range(3):
        maps = np.concatenate([source(*row)[k].numpy().ravel() for row in rows()])
        classes = np.concatenate([row[1]["class"].numpy().ravel() for row in rows()])
        both = (maps != -1) & (classes != 255)
        assert counts.bits[k] == pytest.approx(mutual_info_score(maps[both], classes[both]) / math.log(2), abs=1e-12)


def test_bits_of_known_tables() -> None:
    assert mutual_information(np.array([[5, 0], [0, 5]])) == pytest.approx(1)
    assert mutual_information(np.array([[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5]])) == pytest.approx(2)
    assert mutual_information(np.array([[6, 2], [3, 1]])) == pytest.approx(0, abs=1e-12)
    assert mutual_information(np.zeros((2, 3), dtype=int)) == 0


def test_joint_counts_leave_out_what_is_not_labelled() -> None:
    maps = torch.tensor([[[1, 1, 0, -1, 0]]], dtype=torch.int8)
    values = torch.tensor([[0, 255, 1, 1, 1]])
    assert joint_counts(maps, values, 2).tolist() == [[[0, 2], [1, 0]]]


def test_a_picture_without_classes_counts_for_frequency_only() -> None:
    alone = [(PICTURE, {"part": drawn(0)["part"]})]
    counts = concept_counts(Named(PARTS), alone, CLASSES)
    assert int(counts.labelled.sum()) > 0
    assert int(counts.joint.sum()) == 0
    assert counts.bits.tolist() == [0, 0, 0]


def test_copies_are_also_found_in_the_pictures() -> None:
    values = torch.tensor([[0, 1, 2, 255]])
    labels = {"class": values, "part": torch.tensor([[0, 1, 1, 1]]), "material": torch.tensor([[0, 0, 1, 1]])}
    source = Combined([Named(("a", "b"), "part"), Named(("c", "d"), "material")])
    counts = concept_counts(source, [(torch.zeros(3, 1, 4), labels)], ("x", "y", "z"))
    assert counts.copies == {"part: a": "x", "part: b": "x", "material: c": "z", "material: d": "z"}
    assert [row["copy of"] for row in counts.table()] == ["x", "x", "z", "z"]
    mixed = labels | {"material": torch.tensor([[0, 1, 1, 1]]), "class": torch.tensor([[0, 0, 1, 255]])}
    counts = concept_counts(Named(("c", "d"), "material"), [(torch.zeros(3, 1, 4), mixed)], ("x", "y", "z"))
    assert counts.copies == {}


def test_the_table_has_a_row_for_each_concept() -> None:
    counts = concept_counts(Named(PARTS), rows(), CLASSES)
    table = counts.table()
    assert [row["concept"] for row in table] == list(counts.names)
    assert table[1]["pixels present"] == int(counts.present[1])
    assert table[1]["bits about the class"] == float(counts.bits[1])


def test_select_by_name_frequency_and_bits() -> None:
    source = Combined([Merged(GROUPS, CLASSES), Named(PARTS)])
    counts = concept_counts(source, rows(), CLASSES)
    assert select(source).names == source.names
    assert select(source, names=["part: w*", "flat"]).names == ("flat", "part: wheel", "part: window")
    share, bits = counts.share.tolist(), counts.bits.tolist()
    assert select(source, counts=counts, share=0.3).names == tuple(
        n for n, s in zip(source.names, share, strict=True) if s >= 0.3
    )
    assert select(source, counts=counts, bits=0.5).names == tuple(
        n for n, b in zip(source.names, bits, strict=True) if b >= 0.5
    )
    best = sorted(range(6), key=lambda k: -bits[k])[:2]
    assert select(source, counts=counts, most=2).names == tuple(source.names[k] for k in sorted(best))
    assert select(source, names=["part: *"], counts=counts, pictures=4).names == tuple(f"part: {p}" for p in PARTS)


def test_rare_concepts_are_left_out() -> None:
    labels = [{"part": torch.tensor([[0, 0]]), "class": torch.tensor([[0, 1]])} for _ in range(3)]
    labels[0]["part"] = torch.tensor([[0, 1]])
    source = Named(PARTS)
    counts = concept_counts(source, [(torch.zeros(3, 1, 2), m) for m in labels], CLASSES)
    assert select(source, counts=counts, pictures=1).names == ("part: wheel", "part: window")
    assert select(source, counts=counts, pictures=2).names == ("part: wheel",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Merged({"vehicle": ("cra",)}, CLASSES),
            r"groups\['vehicle'\]='cra' matches nothing. Did you mean 'car'",
        ),
        (lambda: Merged({}, CLASSES), r"groups is empty"),
        (lambda: Merged({"vehicle": ()}, CLASSES), r"groups\['vehicle'\] is empty; give some of road, car"),
        (lambda: Named(("a", "a")), r"the concept 'part: a' appears twice"),
        (lambda: Combined([]), r"sources is empty"),
        (lambda: Combined([Named(PARTS), Named(PARTS)]), r"sources: the concept 'part: wheel' appears twice"),
        (lambda: Selected(Named(PARTS), ["part: wheels"]), r"Did you mean 'part: wheel'"),
        (lambda: select(Named(PARTS), names=["part: r*", "material: *"]), r"names='material: \*' matches nothing"),
        (lambda: select(Named(PARTS), share=0.1), r"need counts="),
        (lambda: select(Named(PARTS), most=0), r"most=0: keep at least one"),
        (lambda: concept_counts(Named(PARTS), [], CLASSES), r"rows is empty"),
    ],
)
def test_what_cannot_be_made(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_choice_that_leaves_nothing() -> None:
    source = Named(PARTS)
    counts = concept_counts(source, rows(), CLASSES)
    with pytest.raises(InputError, match=r"share=0.9.* leave none of 3 concepts"):
        select(source, counts=counts, share=0.9)
    with pytest.raises(InputError, match=r"counts are of other concepts"):
        select(Named(("a", "b")), counts=counts, pictures=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"class": torch.zeros(7, 9)}, r"map='part' matches nothing.*Choices: class"),
        ({"part": torch.zeros(9, 7)}, r"'part' is \(9, 7\) \(H, W\), its picture \(7, 9\)"),
        ({"part": torch.full((7, 9), 3)}, r"'part' holds 3, but 3 values are named \(0..2\) and 255"),
        ({"part": torch.full((7, 9), -1)}, r"'part' holds -1"),
    ],
)
def test_maps_that_cannot_be_used(labels: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Named(PARTS)(PICTURE, labels)
