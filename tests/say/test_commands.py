"""The commands `whatwhere say …`, as a user types them, on a folder of pictures."""

import json
import subprocess
import sys

import pytest

from small_broden import small_broden
from whatwhere.cli import main
from whatwhere.errors import InputError
from whatwhere.models.weights import read_tensors
from whatwhere.say.commands import assignments


def run(capsys, *arguments: object) -> str:
    main(["say", *map(str, arguments)])
    return capsys.readouterr().out


def fails(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["say", *map(str, arguments)])
    assert exit_.value.code == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_train_compare_explain_intervene(capsys, street_folder, tmp_path, no_figures):
    """One user's way through."""
    trained, out, spec = tmp_path / "net", tmp_path / "say", tmp_path / "concepts.json"
    weights = trained / "weights.safetensors"
    size = ("--width", 0.25, "--epochs", 1, "--batch_size", 4, "--crop", "32,48", "--scale", "1,1")
    text = run(capsys, "train", "--data", street_folder, "--out", trained, *size)
    assert f"{weights}: mIoU" in text
    history = json.loads((trained / "history.json").read_text())
    assert (len(history["epochs"]), history["recipe"]["crop"]) == (1, [32, 48])
    assert len(history["recipe"]["class_weights"]) == 10
    before = weights.read_bytes()
    spec.write_text(
        json.dumps({"merged": {"vehicle": ["bus", "car", "taxi"], "flat": ["road", "pavement"]}, "positions": True})
    )
    same = ("--data", street_folder, "--weights", weights, "--out", out, "--width", 0.25)
    how = ("--model", "pspnet/resnet18", "--concepts", spec, "--epochs", 1)
    assert "run `whatwhere say compare` first" in fails(capsys, "explain", *same)
    text = run(capsys, "compare", *same, *how, "--kinds", "ssb")
    assert f"open {out / 'index.html'}" in text
    assert "128 channels become 8 concepts" in text
    assert f"open {out / 'explain' / 'index.html'}" in run(capsys, "explain", *same, "--pictures", "0,5")
    text = run(capsys, "intervene", *same, "--picture", 2, "--set", "vehicle=0,place: *=truth", "--box", "0.5,1,0,1")
    assert "The predicted class changes for" in text
    written = (out / "intervene" / "index.html").read_text()
    assert "Test picture 2 at backbone.layer4: vehicle = 0.0, place: * = truth" in written
    assert weights.read_bytes() == before
    assert "no test picture 8" in fails(capsys, "intervene", *same, "--picture", 8, "--set", "vehicle=0")
    assert "holds another study" in fails(capsys, "compare", *same, *how[:-1], 2)
    assert "(trained are those at backbone.layer4)" in fails(capsys, "explain", *same, "--site", "head")
    kept = read_tensors(next((out / "weights").glob("*.safetensors")))
    assert kept["backbone.layer4.bottleneck.encode.weight"].shape == (8, 128, 1, 1)


@pytest.mark.slow
def test_concepts_of_broden(capsys, street_folder, tmp_path, no_figures):
    """Parts and materials of five pictures, no validation lists."""
    small_broden(tmp_path / "broden")
    out = tmp_path / "say"
    same = ("--model", "pspnet/resnet18", "--width", 0.25, "--data", street_folder, "--out", out)
    how = ("--concepts", f"broden/{tmp_path / 'broden'}", "--kinds", "ssb,learned", "--epochs", 1, "--batch_size", 4)
    text = run(capsys, "compare", *same, *how)
    assert "128 channels become 4 concepts" in text
    page = (out / "index.html").read_text()
    assert "fitted on 4 of its training pictures and calibrated on the same ones" in page
    assert "The scenes have no labels for these concepts" in page
    assert "AUiC is not measured" in page
    assert "never present or never absent: part: roof, texture: banded, texture: woven." in page
    assert "Concepts in Broden+&#39;s training pictures" in page
    stored = json.loads((out / "study.json").read_text())
    assert len(stored["concepts"]["broden"]) == 16
    assert str(tmp_path) not in (out / "study.json").read_text()
    assert f"open {out / 'index.html'}" in run(capsys, "compare", *same, *how, "--workers", 2)  # resumes


def test_what_is_set():
    assert assignments(("vehicle=0", " part: a=b = 0.5", "colour: *=truth")) == {
        "vehicle": 0.0,
        "part: a=b": 0.5,
        "colour: *": "truth",
    }
    with pytest.raises(InputError, match=r"set='vehicle=1': 'vehicle' is set twice"):
        assignments(("vehicle=0", "vehicle=1"))
    for wrong in ("vehicle", "=1", "vehicle=", "vehicle=no"):
        with pytest.raises(InputError, match="give concept=value"):
            assignments((wrong,))


def test_mistakes_are_explained_in_a_line(capsys, street_folder, tmp_path):
    same = ("--model", "pspnet/resnet18", "--data", street_folder, "--out", tmp_path / "out")
    assert "no such file" in fails(capsys, "compare", *same, "--weights", tmp_path / "x.safetensors")
    spec = tmp_path / "c.json"
    spec.write_text("[]")
    assert "must hold an object" in fails(capsys, "compare", *same, "--concepts", spec)
    trained = ("train", "--data", street_folder, "--out", tmp_path / "net", "--width", 0.07)
    assert "seed=-1: give a whole number of at least 0" in fails(capsys, *trained, "--seed", -1)
    assert "data=" in fails(capsys, "train", "--data", tmp_path / "none", "--out", tmp_path / "out")
    assert "Choices: cityscapes, broden/FOLDER, <a JSON file>" in fails(capsys, "compare", *same, "--concepts", "x")


def test_help_is_there_without_torch():
    code = (
        "import sys; from whatwhere.cli import main\n"
        "for words in (['say'], *(['say', c, '--help'] for c in ('demo', 'train', 'compare', 'explain', 'intervene'))):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Can it *say* what is where?" in shown
    assert "--weights_folder" in shown
    assert "whatwhere say compare --model pspnet/resnet18" in shown
