import pickle
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from whatwhere.data import scenes as scenes_file
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.pixels import Raw
from whatwhere.data.scenes import Scenes, SceneSplit, absent_note, video_segments
from whatwhere.data.sources import Files, Memory
from whatwhere.errors import InputError

CLASSES = ("road", "car", "tree")


def numbered(n: int = 6, **options: Any) -> SceneSplit:
    """Picture i has the value i everywhere, its map the class i mod 3."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 4, 5)
    maps = (torch.arange(n, dtype=torch.uint8) % 3)[:, None, None].expand(n, 4, 5)
    return SceneSplit("train", Memory(images), {"class": Memory(maps)}, CLASSES, **options)


def on_disk(folder: Path, *maps: Image.Image, **options: Any) -> SceneSplit:
    """Black pictures of the maps' sizes."""
    pictures, labels = [], []
    for i, values in enumerate(maps):
        pictures.append(folder / f"{i}.jpg")
        labels.append(folder / f"{i}_map.png")
        Image.new("RGB", values.size).save(pictures[-1])
        values.save(labels[-1])
    return SceneSplit("test", Files(pictures), {"class": Files(labels)}, CLASSES, **options)


def grey(values: Any, dtype: Any = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(values, dtype=dtype))


def first_values(pairs: Any) -> list[int]:
    return [int(picture[0, 0, 0]) for picture, _ in pairs]


def test_rows_come_in_the_order_asked_for() -> None:
    split = numbered(70)  # more than are decoded ahead
    assert first_values(split.rows()) == list(range(70))
    assert first_values(split.rows([7, 0, 7])) == [7, 0, 7]
    assert list(split.rows([])) == []
    picture, labels = split[5]
    assert picture.shape == (3, 4, 5)
    assert labels["class"].unique().tolist() == [2]


def test_batches_are_rows_stacked() -> None:
    batches = list(numbered(5).batches(2, order=torch.tensor([4, 0, 3])))
    assert [x.shape for x, _ in batches] == [(2, 3, 4, 5), (1, 3, 4, 5)]
    assert [y.dtype for _, y in batches] == [torch.int64] * 2
    assert torch.cat([y for _, y in batches])[:, 0, 0].tolist() == [1, 0, 0]
    assert sum(len(y) for _, y in numbered(5).batches(2)) == 5
    with pytest.raises(InputError, match="size=0"):
        next(numbered().batches(0))


def test_sizes_differ_between_scenes_but_not_in_a_batch(tmp_path: Path) -> None:
    split = on_disk(tmp_path, grey([[0, 1]]), grey([[0], [2]]))
    assert [p.shape for p, _ in split.rows()] == [(3, 1, 2), (3, 2, 1)]
    with pytest.raises(InputError, match=r"sizes \[\(1, 2\), \(2, 1\)\]; give batch_size=1"):
        list(split.batches(2))
    assert len(list(split.batches(1))) == 2


def test_sources_are_read_from_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    split, threads = numbered(80), set()

    def read(rows: Sequence[int]) -> list[Raw]:
        threads.add(threading.current_thread())
        return [split.maps["class"].images[row] for row in rows]  # type: ignore[attr-defined]

    monkeypatch.setattr(split.maps["class"], "read", read)
    list(split.rows())
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize(("budget", "reads"), [(10**6, 6), (100, 12)])
def test_decoded_rows_are_kept_as_far_as_memory_goes(monkeypatch: pytest.MonkeyPatch, budget: int, reads: int) -> None:
    monkeypatch.setattr(scenes_file, "memory_budget", lambda: budget)
    split, decoded = numbered(6), []
    original = split._decoded

    def counted(row: int, stored: Any) -> Any:
        decoded.append(row)
        return original(row, stored)

    monkeypatch.setattr(split, "_decoded", counted)
    for _ in range(2):
        assert first_values(split.rows()) == list(range(6))
    assert len(decoded) == reads


def test_another_process_gets_no_decoded_pictures(tmp_path: Path) -> None:
    split = on_disk(tmp_path, *[grey(np.zeros((40, 40)))] * 5)
    list(split.rows())
    stored = pickle.dumps(split)
    assert len(stored) < 5 * 40 * 40
    assert torch.equal(pickle.loads(stored)[3][0], split[3][0])


# What a stored value means


def test_a_palettes_entries_are_read_not_its_colours(tmp_path: Path) -> None:
    values = grey([[0, 1, 2], [2, 2, 255]])
    values.putpalette([200, 10, 10, 0, 200, 0] * 128)
    assert values.mode == "P"
    found = on_disk(tmp_path, values)[0][1]["class"]
    assert found.tolist() == [[0, 1, 2], [2, 2, 255]]
    assert found.dtype == torch.uint8


def test_stored_values_are_translated(tmp_path: Path) -> None:
    meant = torch.full((256,), 254, dtype=torch.uint8)
    meant[torch.tensor([10, 20, 30, 0])] = torch.tensor([0, 1, 2, 255], dtype=torch.uint8)
    assert on_disk(tmp_path, grey([[30, 10, 0]]), values=meant)[0][1]["class"].tolist() == [[2, 0, 255]]
    with pytest.raises(InputError, match="label 11 is outside"):
        on_disk(tmp_path, grey([[30, 11]]), values=meant)[0]


# What goes wrong


@pytest.mark.parametrize("values", [None, torch.arange(256, dtype=torch.uint8)])
@pytest.mark.parametrize(("label", "dtype"), [(3, np.uint8), (254, np.uint8), (300, np.uint16), (-1, np.uint8)])
def test_a_label_out_of_range_is_named(tmp_path: Path, values: Tensor | None, label: int, dtype: Any) -> None:
    split = on_disk(tmp_path, grey([[0, max(label, 0)]], dtype))
    if label < 0:  # PNG has no negative numbers
        split.maps["class"] = Memory(torch.tensor([[[0, label]]]))
    split.values = values
    with pytest.raises(InputError, match=rf"'test', row 0.*label {label} is outside 0\.\.2 \(3 classes\), and 255 is"):
        split[0]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    split = on_disk(tmp_path, *[grey([[0, 1]])] * 3)
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    (tmp_path / "2_map.png").write_bytes((tmp_path / "2_map.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"'test': the picture in row 1 \(file .*1\.jpg\) cannot be used: .*Remove"):
        list(split.rows())
    with pytest.raises(InputError, match=r"the label map 'class' in row 2 \(file .*2_map\.png\) cannot be read .*repl"):
        split[2]
    (tmp_path / "2_map.png").unlink()
    with pytest.raises(InputError, match=r"row 2 .*cannot be read"):
        split[2]


def test_a_map_of_another_size_is_named(tmp_path: Path) -> None:
    split = on_disk(tmp_path, grey([[0, 1]]))
    grey([[0], [1]]).save(tmp_path / "0_map.png")
    with pytest.raises(InputError, match=r"0_map\.png\): the map 'class' is \(2, 1\) \(H, W\), its picture \(1, 2\)"):
        split[0]


def test_parts_that_do_not_fit_are_refused() -> None:
    pictures, maps = Memory(torch.zeros(2, 3, 2, 2)), Memory(torch.zeros(2, 2, 2))
    with pytest.raises(InputError, match="'x' is empty"):
        SceneSplit("x", Memory(torch.zeros(0, 3, 2, 2)), {"class": maps}, CLASSES)
    with pytest.raises(InputError, match="'x' has no map 'class'; it has part"):
        SceneSplit("x", pictures, {"part": maps}, CLASSES)
    with pytest.raises(InputError, match="2 pictures but 1 maps 'class'"):
        SceneSplit("x", pictures, {"class": Memory(torch.zeros(1, 2, 2))}, CLASSES)
    with pytest.raises(InputError, match="2 pictures but 3 groups"):
        SceneSplit("x", pictures, {"class": maps}, CLASSES, groups=torch.arange(3))
    with pytest.raises(InputError, match="256 classes; there can be 255"):
        SceneSplit("x", pictures, {"class": maps}, [str(i) for i in range(256)])


# Parts of a split, and what tells splits apart


def test_take_keeps_pictures_maps_and_groups_together() -> None:
    split = numbered(20, groups=torch.arange(20) // 2)
    part = split.take(6, seed=3)
    rows = first_values(part.rows())
    assert rows == sorted(set(rows))
    assert len(rows) == 6
    assert [int(m["class"][0, 0]) for _, m in part.rows()] == [r % 3 for r in rows]
    assert part.groups.tolist() == [r // 2 for r in rows]
    assert first_values(split.take(6, seed=3).rows()) == rows
    assert first_values(split.take(6, seed=4).rows()) != rows
    assert split.take(20) is split
    with pytest.raises(InputError, match="n=0"):
        split.take(0)


def test_errors_of_a_part_name_the_row_of_the_whole(tmp_path: Path) -> None:
    part = on_disk(tmp_path, *[grey([[0, 7]])] * 4).only(torch.tensor([2]))
    with pytest.raises(InputError, match=r"row 2 \(file .*2_map"):
        part[0]


def test_fingerprints_tell_content_apart() -> None:
    black = SceneSplit("train", Memory(torch.zeros(6, 3, 4, 5, dtype=torch.uint8)), numbered().maps, CLASSES)
    split, meant = numbered(), torch.arange(256, dtype=torch.uint8)
    others = [
        numbered(5),
        black,
        numbered(groups=torch.zeros(6, dtype=torch.int64)),
        numbered(values=meant),
        numbered(values=meant.roll(1)),
        SceneSplit("train", split.pictures, split.maps, ("a", "b", "c")),
    ]
    assert split.fingerprint == numbered().fingerprint
    assert len({split.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_splits_by_name() -> None:
    split, held = numbered(4), numbered(2)
    scenes = Scenes("streets", {"train": split, "val": held})
    assert scenes.train is split
    assert scenes.validation is scenes.test is held
    assert scenes.classes == CLASSES
    assert scenes.describe()["sizes"] == {"train": 4, "val": 2}
    with pytest.raises(InputError, match="'streets' have no split train; they have val"):
        _ = Scenes("streets", {"val": held}).train


# Videos


def test_frames_of_a_video_are_cut_into_pieces_in_their_order() -> None:
    frames = ["b_3", "a_10", "a_9", "a_100", "b_20", "a_30", "a_31"]  # a: 9 10 | 30 31 | 100, b: 3 20
    assert video_segments(frames, 2).tolist() == [3, 0, 0, 2, 3, 1, 1]


def test_camvids_names_and_others() -> None:
    names = [f"0001TP_{n:06d}" for n in range(0, 690, 30)] + [f"Seq05VD_f{n:05d}" for n in range(0, 150, 30)]
    groups = video_segments(names)
    assert groups.bincount().tolist() == [10, 10, 3, 5]
    assert torch.equal(video_segments([f"{n}.png" for n in names]), groups)
    assert video_segments(["one", "two", "one"]).tolist() == [0, 1, 0]


def test_drawn_streets_come_in_separate_splits() -> None:
    scenes = drawn_streets(train=3, validation=2, test=2, size=(32, 48))
    assert scenes.describe()["sizes"] == {"train": 3, "validation": 2, "test": 2}
    picture, labels = scenes.train[0]
    assert picture.shape == (3, 32, 48)
    assert set(labels) == {"class", *scenes.values}
    splits = list(scenes.splits.values())
    assert len({tuple(s[0][0].flatten().tolist()) for s in splits}) == 3
    assert scenes.train.fingerprint == drawn_streets(train=3, validation=1, test=1, size=(32, 48)).train.fingerprint
    assert (
        scenes.train.fingerprint
        != drawn_streets(train=3, validation=1, test=1, size=(32, 48), seed=1).train.fingerprint
    )
    for _, maps in scenes.test.rows():
        for name, names in scenes.values.items():
            values = maps[name][maps[name] != 255]
            assert int(values.max()) < len(names)


def test_classes_are_counted_without_their_pictures(tmp_path: Path) -> None:
    split = on_disk(tmp_path, grey([[0, 1, 255]]), grey([[0, 1, 1]]))
    (tmp_path / "0.jpg").write_bytes(b"no picture")
    assert split.counts[[0, 1, 2, 255]].tolist() == [2, 3, 0, 1]
    assert split.absent == ("tree",)
    assert absent_note(split) == (
        "split 'test': 'tree' never occurs in its 2 label maps; 16.7 % of the pixels are unlabelled (255)."
    )
    kept = numbered(6)
    list(kept.rows())  # decoded and kept
    assert kept.counts[:3].tolist() == [40, 40, 40]
    assert kept.absent == ()


def test_scenes_say_which_classes_no_training_map_holds() -> None:
    whole, part = numbered(6), numbered(2)
    assert Scenes("s", {"train": whole, "test": part}).absent_notes() == []
    assert Scenes("s", {"test": part}).absent_notes() == []
    (note,) = Scenes("s", {"training": part}).absent_notes()
    assert note == "split 'train': 'tree' never occurs in its 2 label maps."


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    split = on_disk(tmp_path, grey([[0, 1]]))
    (tmp_path / "0_map.png").unlink()
    with pytest.raises(InputError, match=r"row 0 \(file .*0_map\.png\) cannot be read \(No such file or directory\)"):
        _ = split.fingerprint
