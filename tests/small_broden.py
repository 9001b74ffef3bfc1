"""A folder of a few pictures in Broden+'s original layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

OBJECTS = ("-", "car", "building", "sky")
PARTS = ("-", "wheel", "window", "roof")
MATERIALS = ("-", "metal", "glass")
TEXTURES = ("banded", "woven")
ASSIGNMENT = """dataset,category,raw_label,raw_name,broden_label,broden_name
ade20k,object,401,car;auto,1,car
ade20k,object,312,building;edifice,2,building
ade20k,object,2420,sky,3,sky
ade20k,object,5,acropolis,0,-
ade20k,part,3035,wheel,1,wheel
ade20k,part,3050,window,2,window
ade20k,part,2155,roof,3,roof
ade20k,part,7,antler,0,-
pascal,object,59,car,1,car
pascal,object,31,building,2,building
pascal,part,6,wheel,1,wheel
pascal,part,25,window,2,window
pascal,part,20,,0,-
pascal,part,24,roof,3,roof
os,material,0,,0,-
os,material,22,metal,1,metal
os,material,14,glass,2,glass
os,material,40,water,0,-
"""
PART2IND = """% [car]
pimap{7}('fwheel')      = 1;                % front wheel
pimap{7}('roofside')   = 5;
for ii = 1:10
    pimap{7}(sprintf('window_%d',ii)) = 40 + ii; % multiple windows
end
for ii = 1:10
    pimap{19}(sprintf('croofside_%d', ii)) = 70 + ii;   % coach roof side
end
"""
LISTS = {1: (1, 2), 2: (2, 3)}  # a car has wheels and windows, a building windows and a roof
SHAPE = (6, 8)
ADE_OBJECTS = np.full(SHAPE, 2420)
ADE_OBJECTS[:, :4], ADE_OBJECTS[4:, 4:], ADE_OBJECTS[0, 0] = 312, 401, 5
ADE_PARTS = np.zeros(SHAPE, dtype=int)
ADE_PARTS[1:3, 1:3], ADE_PARTS[3, 0], ADE_PARTS[3, 1], ADE_PARTS[0, 6] = 3050, 3035, 7, 3050


def csv_of(names: tuple[str, ...]) -> str:
    return "label,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)


def ade_code(labels: np.ndarray) -> np.ndarray:
    """Labels in tens of red and in green; noise in the rest of red and in blue, as for instances."""
    noise = np.random.default_rng(0).integers(0, 6, (*labels.shape, 2))
    return np.stack([labels // 256 * 10 + noise[..., 0], labels % 256, 40 + noise[..., 1]], -1)


def write_meta(meta: Path) -> None:
    for name, names in {"object": OBJECTS, "part": PARTS, "material": MATERIALS, "texture": TEXTURES}.items():
        write(meta / f"{name}.csv", csv_of(names))
    write(meta / "label_assignment.csv", ASSIGNMENT)
    rows = "".join(f"{o},{OBJECTS[o]},{';'.join(map(str, (0, *p)))},-\n" for o, p in LISTS.items())
    write(meta / "object_part_hierarchy.csv", "object_label,object_name,part_labels,part_names\n" + rows)
    write(meta / "dtd" / "labels_joint_anno.txt", "woven/woven_1.jpg banded woven \nbanded/banded_1.jpg banded \n")
    for name, dataset, numbers in (("ade20k_pascal", "ade20k", [1]), ("os", "os", [1, 0])):
        lines = [json.dumps({"dataset": dataset, "file_index": i, "height": 6, "width": 8}) for i in numbers]
        lines += [json.dumps({"dataset": "pascal", "file_index": 0, "nr_part": 6})] if dataset == "ade20k" else []
        write(meta / f"broden_{name}_train.json", "\n".join(lines) + "\n")
    write(meta / "dtd_training_list.json", '{"width": 8, "height": 6, "dataset": "dtd", "file_index": 0}\n')


def write_ade(meta: Path, root: Path) -> None:
    index = {
        "filename": np.array(["ADE_train_1.jpg", "ADE_train_2.jpg"], dtype=object),
        "folder": np.array(["ADE20K_2016_07_26/images/training/a"] * 2, dtype=object),
    }
    (meta / "ade20k").mkdir(parents=True)
    savemat(meta / "ade20k" / "index_ade20k.mat", {"index": index})
    folder = root / "ade20k" / "ADE20K_2016_07_26/images/training/a"
    save(folder / "ADE_train_2.jpg", np.full((*SHAPE, 3), 90))
    save(folder / "ADE_train_2_seg.png", ade_code(ADE_OBJECTS))
    save(folder / "ADE_train_2_parts_1.png", ade_code(ADE_PARTS))


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[rows, columns] = 1
    return mask


def write_pascal(root: Path) -> None:
    write(root / "pascal/part/part2ind.m", PART2IND)
    kind = np.dtype([("part_name", object), ("mask", object)])
    names = ("fwheel_1", "window_12", "roofside", "frontside")
    masks = [box(slice(i, i + 1), slice(0, 3)) for i in range(4)]
    parts = np.array([[(n, m) for n, m in zip(names, masks, strict=True)]], dtype=kind)
    objects = np.empty((1, 2), dtype=[("class", object), ("class_ind", object), ("mask", object), ("parts", object)])
    objects[0, 0] = ("car", 7, box(slice(0, 6), slice(0, 4)), parts)
    objects[0, 1] = ("boat", 4, box(slice(5, 6), slice(5, 6)), np.zeros((0, 0)))
    for folder in ("part/Annotations_Part", "context/trainval"):
        (root / "pascal" / folder).mkdir(parents=True, exist_ok=True)
    savemat(root / "pascal/part/Annotations_Part/2008_1.mat", {"anno": {"imname": "2008_1", "objects": objects}})
    scene = np.full(SHAPE, 59)
    scene[:, 5:] = 31
    savemat(root / "pascal/context/trainval/2008_1.mat", {"LabelMap": scene.astype(np.uint16)})
    save(root / "pascal/VOC2010/JPEGImages/2008_1.jpg", np.full((*SHAPE, 3), 60))


def write_surfaces(root: Path) -> None:
    write(root / "opensurfaces/photos.csv", "photo_id,scene_category_name\n17,kitchen\n4,bath\n")
    labels = np.zeros((12, 16, 3))  # twice as large as the photo
    labels[:6, :, 0], labels[6:, :8, 0], labels[6:, 8:, 0], labels[..., 1] = 22, 14, 40, 9
    for number in (17, 4):
        save(root / f"opensurfaces/photos/{number}.jpg", np.full((*SHAPE, 3), number))
        save(root / f"opensurfaces/photos-labels/{number}.png", labels)


def small_broden(folder: Path) -> Path:
    """Five pictures, six by eight pixels: one of ADE20K, one of PASCAL, two of OpenSurfaces, one of DTD."""
    root, meta = folder / "broden_dataset", folder / "meta_file"
    write_meta(meta)
    write_ade(meta, root)
    write_pascal(root)
    write_surfaces(root)
    save(root / "dtd/dtd-r1.0.1/images/woven/woven_1.jpg", np.full((*SHAPE, 3), 200))
    return folder


def drawn_broden(folder: Path, photos: int = 8, textures: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
    """OpenSurfaces and DTD alone, with materials and textures that pixels show, and both splits.

    Metal is dark and glass light, each on a half of the picture; the textures are stripes and noise.
    """
    root, meta = folder / "broden_dataset", folder / "meta_file"
    write_meta(meta)
    rng = np.random.default_rng(0)
    for number in range(photos):
        labels, level = np.zeros((*size, 3)), rng.integers(0, 40, (*size, 3))
        half = int(rng.integers(size[1] // 4, size[1] // 2))
        labels[:, :half, 0], labels[:, half:, 0], labels[0, :, 0] = 22, 14, 40
        level[:, half:] += 180
        save(root / f"opensurfaces/photos/{number}.png", level)
        (root / f"opensurfaces/photos/{number}.png").rename(root / f"opensurfaces/photos/{number}.jpg")
        save(root / f"opensurfaces/photos-labels/{number}.png", labels)
    write(root / "opensurfaces/photos.csv", "photo_id,scene\n" + "".join(f"{n},x\n" for n in range(photos)))
    names = [f"{name}/{name}_{n}.jpg" for n in range(textures) for name in TEXTURES]
    for name in names:
        stripes = (np.arange(size[0]) // 4 % 2 * 200)[:, None, None] + np.zeros((*size, 3))
        save(
            root / "dtd/dtd-r1.0.1/images" / name,
            stripes if name.startswith("banded") else rng.integers(0, 255, (*size, 3)),
        )
    write(meta / "dtd" / "labels_joint_anno.txt", "".join(f"{name} x\n" for name in names))
    for part, files in SPLIT_LISTS.items():
        for file, dataset, total in zip(files, ("os", "dtd"), (photos, len(names)), strict=True):
            cut = 3 * total // 4
            numbers = range(cut) if part == "train" else range(cut, total)
            write(meta / file, "".join(json.dumps({"dataset": dataset, "file_index": n}) + "\n" for n in numbers))
    return folder


SPLIT_LISTS = {
    "train": ("broden_os_train.json", "dtd_training_list.json"),
    "validation": ("broden_os_val.json", "dtd_validation_list.json"),
}
