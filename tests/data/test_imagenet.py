import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from whatwhere.data import load_data
from whatwhere.errors import InputError

SYNSETS = ("n01440764", "n01484850", "n02119789")
IDS = {"n01440764": 3, "n01484850": 1, "n02119789": 2}  # the devkit's numbers do not follow the names
SHOWN = ("n02119789", "n01440764", "n01440764", "n01484850")  # by the validation pictures 1 to 4


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


def pictures(place: Path) -> Path:
    """Red is the place of a picture's synset, and 9 in the test pictures, whose classes are secret."""
    for i, synset in enumerate(SYNSETS):
        for n in range(2):
            picture(place / "train" / synset / f"{synset}_{n}.JPEG", 40 * i)
    for number, synset in enumerate(SHOWN, 1):
        picture(place / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", 40 * SYNSETS.index(synset))
    return place


def devkit(base: Path) -> Path:
    kit = base / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{IDS[s]}\n" for s in SHOWN))
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    inner = (4, "n00001740", "entity", 3)
    synsets = np.array([*((n, s, "word", 0) for s, n in IDS.items()), inner], dtype=kinds)
    savemat(kit / "meta.mat", {"synsets": synsets[:, None]})
    return base


def kaggle(base: Path) -> Path:
    rows = [f"ILSVRC2012_val_{n:08d},{s} 1 2 3 4 {s} 5 6 7 8 \n" for n, s in enumerate(SHOWN, 1)]
    (base / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(rows[::-1]))
    return base


def check(data: object) -> None:
    """Every picture has the label of the synset that it shows."""
    assert data.classes == SYNSETS  # type: ignore[attr-defined]
    assert data.test.name == "val"  # type: ignore[attr-defined]
    assert len(data.test) == 4  # type: ignore[attr-defined]
    for split in (data.train, data.test):  # type: ignore[attr-defined]
        images, labels = next(split.batches(10))
        assert [round(v / 40) for v in images[:, 0].float().mean((1, 2)).tolist()] == labels.tolist()


def test_validation_pictures_of_the_devkit(tmp_path: Path) -> None:
    check(load_data(devkit(pictures(tmp_path))))


def test_the_devkit_as_an_archive(tmp_path: Path) -> None:
    kit = devkit(pictures(tmp_path)) / "ILSVRC2012_devkit_t12"
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(kit, kit.name)
    shutil.rmtree(kit)
    check(load_data(tmp_path))


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_layout_from_each_of_its_folders(tmp_path: Path, given: str) -> None:
    place = pictures(kaggle(tmp_path) / "ILSVRC" / "Data" / "CLS-LOC")
    picture(place / "test" / "ILSVRC2012_test_00000001.JPEG", 9)
    with pytest.warns(UserWarning, match="the 1 pictures of .*test have no labels and are passed over"):
        check(load_data(tmp_path / given))


def test_validation_pictures_that_were_sorted_into_class_folders(tmp_path: Path) -> None:
    place = pictures(tmp_path / "ILSVRC" / "Data" / "CLS-LOC")
    for number, synset in enumerate(SHOWN, 1):
        file = place / "val" / f"ILSVRC2012_val_{number:08d}.JPEG"
        (place / "val" / synset).mkdir(exist_ok=True)
        file.rename(place / "val" / synset / file.name)
    check(load_data(tmp_path))
    check(load_data(place))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(
        InputError, match=r"no file says their class; put ILSVRC2012_devkit_t12 \(or .*LOC_val_solution"
    ):
        load_data(tmp_path)
    devkit(tmp_path)
    picture(tmp_path / "val" / "ILSVRC2012_val_00000005.JPEG", 0)
    with pytest.raises(InputError, match=r"no file says the class of .*00000005.JPEG; remove it"):
        load_data(tmp_path)
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"devkit_t12/data cannot be read \(.*unpack or download it again"):
        load_data(tmp_path)
