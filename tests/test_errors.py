"""What a user may type wrong: each is one line that names the argument, what was seen and what to give, exit code 2."""

import json

import pytest

from whatwhere import wings
from whatwhere.arguments import parser_of
from whatwhere.cli import main
from whatwhere.errors import nearest, unknown
from whatwhere.lab.study import loaded

NET = "--model cifar/vgg11 --width 0.05"
PLAIN = "--model cifar/resnet20"
DIGITS = "--data digits"
READ = f"hold readout {NET} {DIGITS}"
CURVE = f"need curve {NET} {DIGITS}"
TRAINED = f"need trained {NET} {DIGITS}"
COMPARE = f"use compare {PLAIN} {DIGITS}"
TRAIN = f"train {NET} {DIGITS} --out t"
COLLAPSE = f"need collapse {NET} --site features.18"
POINTWISE = f"need pointwise {NET} --site features.18"
TRUNCATE = f"need truncate {NET} --site features.18"
EXPORT = f"export {NET}"

# A command with one mistake in it -> what its message must hold: the argument, what was seen or what to give.
WRONG = {
    "ned curve": ("'ned'", "Did you mean 'need'"),
    "need curv": ("'curv'", "Did you mean 'curve'"),
    "--bogus": ("'--bogus'", "Choices: need"),
    "hold readot": ("'readot'", "Did you mean 'readout'"),
    "sites": ("give --model",),
    "report": ("give --folder",),
    f"need curve {NET}": ("give --data",),
    f"train {NET} {DIGITS}": ("give --out",),
    f"{CURVE} --repeat 3": ("--repeat", "Did you mean --repeats"),
    f"{TRAINED} --tolerance 0.1": ("no option --tolerance",),
    "hold red-green --model cifar/vgg11": ("no option --model",),
    f"use cost {PLAIN} {DIGITS} --seeds 0,1": ("no option --seeds",),
    f"sites {NET} --widht 2": ("no option --widht", "Did you mean --width"),
    # networks
    "sites --model cifar/vgg1": ("model='cifar/vgg1'", "Did you mean 'cifar/vgg16'"),
    "sites --model nothing": ("model='nothing'", "Choices"),
    "sites --model timm/resnet1": ("model='timm/resnet1'", "Did you mean"),
    "sites --model torchvision/resnet1": ("model='torchvision/resnet1'", "Did you mean"),
    f"sites {NET} --receptive true": ("receptive=true", "give --data"),
    f"sites {NET} --receptive true {DIGITS} --pictures 1": ("pictures: there is 1", "2 or more"),
    "sites --model cifar/vgg11 --input_size 0": ("--input_size", "3 whole numbers"),
    "sites --model cifar/vgg11 --input_size 3,32": ("--input_size", "3 whole numbers"),
    f"evaluate {DIGITS} --model cifar/vgg11 --width 0": ("width=0",),
    f"evaluate {DIGITS} --model cifar/vgg11 --width -1": ("width=-1",),
    f"evaluate {DIGITS} --model cifar/vgg11 --width nan": ("width=nan", "number"),
    f"evaluate {DIGITS} --model cifar/vgg11 --width 1e9": ("width",),
    f"evaluate {NET} {DIGITS} --classes 0": ("classes=0",),
    f"evaluate {NET} {DIGITS} --pretrained maybe": ("--pretrained=maybe", "true or false"),
    f"evaluate {NET} {DIGITS} --weights nosuch": ("weights='nosuch'", "no such file"),
    f"evaluate {NET} {DIGITS} --weights file.txt": ("weights='file.txt'",),
    f"evaluate {NET} {DIGITS} --device gpu": ("device='gpu'", "'cpu'"),
    # folders of networks
    "sites --model empty": ("model='empty'", "folder without config.json"),
    "sites --model ./nosuch": ("model='./nosuch'", "does not exist", "ww.save"),
    "sites --model nosuch.safetensors": ("model='nosuch.safetensors'", "does not exist"),
    "sites --model ./file.txt": ("model='./file.txt'", "--weights file.txt"),
    "sites --model foreign": ("model='foreign'", "config.json that whatwhere did not write"),
    "sites --model newer": ("newer/config.json has schema 99", "whatwhere 9.0", "update whatwhere"),
    "sites --model damaged": ("damaged/config.json is damaged", "save the network again"),
    f"{COLLAPSE} --out foreign": ("out='foreign'", "config.json", "did not write", "overwrite=true"),
    f"{COLLAPSE} --out net.onnx": ("out='net.onnx'", "'net.onnx.safetensors'", "'net'"),
    f"{COLLAPSE} --out file.txt": ("file.txt", "is a file, and a folder is needed"),
    f"{POINTWISE} --out foreign": ("out='foreign'", "config.json", "did not write", "overwrite=true"),
    f"{POINTWISE} --out w --local median": ("--local=median", "one of none, average, max"),
    f"{TRUNCATE} --out net.pt": ("out='net.pt'", "'net.pt.safetensors'"),
    f"{TRUNCATE} --out w --scores 0": ("classes=0", "whole number above 0"),
    f"train {NET} {DIGITS} --out foreign": ("out='foreign'", "config.json", "overwrite=true"),
    EXPORT: ("give --out",),
    f"{EXPORT} --out net": ("out='net'", ".onnx", "'net.onnx'"),
    f"{EXPORT} --out net.onnx --format tflite": ("--format=tflite", "one of onnx, torch-export"),
    f"{EXPORT} --out net.onnx --format torch-export": ("out='net.onnx'", "'net.pt2'"),
    f"{EXPORT} --out file.onnx": ("out='file.onnx'", "did not write", "overwrite=true"),
    f"{EXPORT} --out net.onnx --input_size 3,0,3": ("input_size=(3, 0, 3)",),
    "export --model empty --out net.onnx": ("model='empty'", "folder without config.json"),
    # data
    f"evaluate {NET} --data nosuch": ("data='nosuch'", "Choices"),
    f"evaluate {NET} --data empty": ("data='empty'", "no pictures"),
    f"evaluate {NET} --data file.txt": ("data='file.txt'", "folder"),
    f"evaluate {NET} --data known/nothing": ("data='known/nothing'", "known/what"),
    f"evaluate {NET} --data hf/": ("data='hf/'",),
    "report --folder nosuch": ("folder='nosuch'", "result.json"),
    "report --folder empty": ("folder='empty'", "result.json"),
    # need
    f"{CURVE} --methods nothing": ("nothing",),
    f"{CURVE} --repeats 0": ("repeats=0",),
    f"{CURVE} --repeats x": ("--repeats=x", "whole number"),
    f"{CURVE} --batch_size 0": ("batch_size=0",),
    f"{CURVE} --limit 0": ("limit=0",),
    f"{CURVE} --sites nothing": ("sites='nothing'",),
    f"{CURVE} --tolerance -1": ("tolerance=-1",),
    f"{CURVE} --workers -2": ("workers=-2",),
    f"{CURVE} --engine slrum": ("engine='slrum'", "Did you mean 'slurm'"),
    f"{CURVE} --engine slurm:gpu": ("engine='slurm:gpu'", "ray:HOST:PORT"),
    f"{CURVE} --engine ray --workers 2": ("workers=2 and engine='ray'", "one of them"),
    f"{CURVE} --engine ray --partition gpu": ("partition='gpu'", "engine=slurm"),
    f"{CURVE} --partition gpu": ("partition='gpu'", "engine=ray or engine=slurm"),
    f"{CURVE} --engine slurm --slurm account": ("slurm='account'", "NAME=VALUE"),
    f"{CURVE} --engine slurm --hours soon": ("--hours=soon", "a number"),
    f"{CURVE} --engine slurm --gpus_per_cell 0.5": ("gpus_per_cell=0.5", "whole number"),
    f"need patches {NET}": ("give --data",),
    f"need patches {NET} {DIGITS} --grids 3": ("grid=3", "does not divide"),
    f"need patches {NET} {DIGITS} --grids 1": ("grids=", "2 or more"),
    f"need patches {NET} {DIGITS} --scope both": ("--scope=both", "sample"),
    f"{TRAINED} --shares 38": ("shares", "0.38"),
    f"{TRAINED} --shares -0.1": ("shares", "-0.1"),
    f"{TRAINED} --seeds -1": ("seeds=(-1,)",),
    f"{TRAINED} --epochs 0": ("epochs=0",),
    f"{TRAINED} --lr 0": ("lr=0",),
    f"{TRAINED} --recipe fsat": ("recipe='fsat'", "Did you mean 'fast'"),
    # hold
    f"hold without {NET} {DIGITS}": ("site=''", "whatwhere sites"),
    f"hold without {NET} {DIGITS} --site nothing": ("sites='nothing'",),
    f"hold without {NET} {DIGITS} --site features.8 --rounds 0": ("rounds=0",),
    f"hold without {NET} {DIGITS} --site features.8 --targets X": ("targets='X'", "Choices: H"),
    f"{READ} --kernels 0": ("kernel=0", "odd"),
    f"{READ} --kernels 2": ("kernel=2", "odd"),
    f"{READ} --kernels 31": ("kernel=31", "smaller kernel"),
    f"{READ} --kernels three": ("--kernels=three", "whole numbers"),
    f"{READ} --targets X": ("targets='X'", "Choices: H"),
    f"{READ} --target_range 0..2": ("--target_range=0..2", "-1..1"),
    f"{READ} --readouts lasso": ("readouts='lasso'", "ridge"),
    f"{READ} --readout_padding -1": ("padding=-1",),
    f"{READ} --layers 4": ("layers=4",),
    f"{READ} --untrained -1": ("untrained=-1",),
    f"{READ} --untrained 1.5": ("--untrained=1.5", "whole number"),
    f"{READ} --paddings mirror": ("paddings='mirror'", "circular"),
    f"{READ} --blanks grey": ("blanks='grey'", "white"),
    f"{READ} --input_size 0": ("input_size=0",),
    f"{READ} --pictures 1": ("pictures=1", "at least 2"),
    f"{READ} --test_pictures 0": ("test_pictures=0",),
    f"{READ} --size 0": ("size=0",),
    f"{READ} --size 1": ("size=1",),
    f"{READ} --batch_size 0": ("batch_size=0",),
    f"{READ} --seed x": ("--seed=x",),
    f"hold pattern {NET} {DIGITS} --margin 0": ("margin=0",),
    f"hold pattern {NET} {DIGITS} --pictures 0": ("pictures=0",),
    f"hold pattern {NET} {DIGITS} --paddings mirror": ("paddings='mirror'",),
    "hold red-green --paddings mirror": ("paddings='mirror'",),
    "hold red-green --epochs 0": ("epochs=0",),
    "hold red-green --pictures 10": ("--pictures", "3 whole numbers"),
    "hold red-green --pictures 0,0,0": ("pictures=(0, 0, 0)", "at least 2"),
    f"hold location {DIGITS} --grid 1": ("grid=1", "at least 2"),
    f"hold location {DIGITS} --rows nothing": ("rows='nothing'",),
    f"hold location {DIGITS} --epochs 0": ("epochs=0",),
    f"hold location {DIGITS} --lr 0": ("lr=0",),
    # use
    f"{COMPARE} --methods nothing": ("method='nothing'", "ms_sar"),
    f"{COMPARE} --seeds x": ("--seeds=x", "whole numbers"),
    f"{COMPARE} --epochs 0": ("epochs=0",),
    f"{COMPARE} --lr -0.1": ("lr=-0.1",),
    f"{COMPARE} --batch_size 0": ("batch_size=0",),
    f"use joint {PLAIN} {DIGITS} --repeats 0": ("repeats=0",),
    f"use joint {PLAIN} {DIGITS} --limit 0": ("limit=0",),
    f"use cost {PLAIN} {DIGITS} --batch 0": ("batch=0",),
    f"use cost {PLAIN} {DIGITS} --rounds 0": ("rounds=0",),
    # training
    f"{TRAIN} --epochs 0": ("epochs=0",),
    f"{TRAIN} --lr 0": ("lr=0", "above 0"),
    f"{TRAIN} --lr inf": ("lr=inf",),
    f"{TRAIN} --batch_size 1000000": ("batch_size=1000000", "1347"),
    f"{TRAIN} --precision 8bit": ("--precision=8bit", "bf16-mixed"),
    f"{TRAIN} --augment maybe": ("--augment=maybe", "true or false"),
    f"train {NET} {DIGITS} --out file.txt --epochs 1": ("file.txt",),
    # say
    "say compare --model nothing --data empty": ("data='empty'", "classes.json"),
    "say explain": ("give --data and --weights",),
}


# A slip of the finger -> what is asked for first.
MEANT = {
    # commands
    "ned curve": "'need'",
    "Need curve": "'need'?",
    "adit": "'audit'",
    "site --model cifar/vgg11": "'sites'",
    "--verison": "'--version'",
    "--hlep": "'--help'",
    "curve": "'need curve'?",
    "readot": "'hold readout'",
    "need-curve": "'need curve'",
    "joint": "'use joint'?",
    "demo": "'need demo' or 'say demo'?",
    "need curv": "'curve'",
    "need Curve": "'curve'?",
    "need --hepl": "'--help'",
    "need audit": "'whatwhere audit'?",
    "need readout": "'whatwhere hold readout'?",
    "need compare": "'whatwhere compare' or 'whatwhere use compare' or 'whatwhere say compare'?",
    "hold witout": "'without'",
    # options
    f"audit {NET} {DIGITS} --minuts 3": "--minutes?",
    f"audit {NET} {DIGITS} --Minutes 3": "--minutes?",
    f"{CURVE} --repeets=3": "--repeats?",
    f"{CURVE} --batchsize 3": "--batch_size?",
    f"{CURVE} -repeats 3": "--repeats?",
    f"{CURVE} -repeats=3": "--repeats?",
    f"{CURVE} -batch-size 3": "--batch_size?",
    # networks
    "sites --model cifar/vg11": "'cifar/vgg11'",
    "sites --model cfar/vgg11": "'cifar/vgg11'",
    "sites --model CIFAR/vgg11": "'cifar/vgg11'?",
    "sites --model vgg11": "'cifar/vgg11' or 'timm/vgg11' or 'torchvision/vgg11'?",
    "sites --model resnet18": "'timm/resnet18' or 'torchvision/resnet18'?",
    "sites --model tim/resnet18": "'timm/resnet18'",
    "sites --model torchvison/resnet18": "'torchvision/resnet18'",
    "sites --model timm/resnt18": "'timm/resnet18'",
    "sites --model timm/ResNet18": "'timm/resnet18'?",
    "sites --model torchvision/resnet81": "'torchvision/resnet18'",
    "sites --model pspnet/resnt18": "'resnet18'",
    "sites --model ssd/smal": "'ssd/small'",
    # sites
    f"{CURVE} --sites feature.8": "'features.8'",
    f"{CURVE} --sites Features.8": "'features.8'?",
    f"{CURVE} --sites last30%": "'last 30%'?",
    f"sites {NET} --select last-50": "'last 50%'?",
    f"sites {NET} --kind cnv": "'conv'",
    f"hold without {NET} {DIGITS} --site featurs.8": "'features.8'",
    f"{COLLAPSE.replace('features', 'featurs')} --out c": "'features.18'",
    # scores, engines, logs
    f"{CURVE} --score acuracy": "'accuracy'",
    f"{CURVE} --score top-5": "'top5'",
    f"{TRAINED} --score acuracy": "'accuracy'",
    f"{CURVE} --engine slrum": "'slurm'",
    f"{CURVE} --engine Ray": "'ray'?",
    f"{CURVE} --log tensorbord": "'tensorboard'",
    # recipes, methods, choices
    f"{TRAIN} --recipe fats": "'fast'",
    f"{TRAIN} --recipe fan2020": "'fan2020-cifar'",
    f"{TRAIN} --precision bf16": "'bf16-mixed'",
    f"{TRAIN} --augment flase": "'false'",
    f"{CURVE} --methods per-chanel": "'per-channel'",
    f"{TRAINED} --methods gapfc": "'gap_fc'",
    f"{COMPARE} --methods ms_sra": "'ms_sar'",
    f"{POINTWISE} --out w --local averge": "'average'",
    f"need patches {NET} {DIGITS} --scope sampel": "'sample'",
    f"{EXPORT} --out net.onnx --format onx": "'onnx'",
    f"{READ} --targets h": "'H'?",
    f"{READ} --paddings circlar": "'circular'",
    f"{READ} --readouts rigde": "'ridge'",
    f"hold location {DIGITS} --rows zero": "'zeros'",
    f"audit {NET} {DIGITS} --without hol": "'hold'",
    # data
    f"evaluate {NET} --data digit": "'digits'",
    f"evaluate {NET} --data known/wat": "'known/what'",
    "evaluate --model ssd/small --data drawn/boxs": "'drawn/boxes'",
    "say train --data drawn/street --out s": "'drawn/streets'",
}


# Every command, with what it needs to get as far as its device.
COMMANDS = {
    "export": f"{EXPORT} --out net.onnx",
    "sites": f"sites {NET}",
    "train": TRAIN,
    "evaluate": f"evaluate {NET} {DIGITS}",
    "report": "report --folder empty",
    "need curve": CURVE,
    "need patches": f"need patches {NET} {DIGITS} --grids 2",
    "need trained": TRAINED,
    "need collapse": f"need collapse {NET} --out c",
    "audit": f"audit {NET} {DIGITS}",
    "compare": "compare empty nothing",
    "doctor": "doctor",
    "completion": "completion bash",
    "need pointwise": f"need pointwise {NET} --out c",
    "need truncate": f"need truncate {NET} --out c",
    "need recover": f"need recover {NET} {DIGITS}",
    "need demo": "need demo",
    "hold readout": READ,
    "hold without": f"hold without {NET} {DIGITS} --site features.8",
    "hold pattern": f"hold pattern {NET} {DIGITS}",
    "hold red-green": "hold red-green",
    "hold location": f"hold location {DIGITS}",
    "use compare": COMPARE,
    "use joint": f"use joint {PLAIN} {DIGITS}",
    "use cost": f"use cost {PLAIN} {DIGITS}",
    "say demo": "say demo",
    "say train": "say train --data drawn/streets --out s",
    "say compare": "say compare --model pspnet/resnet18 --data drawn/streets",
    "say explain": "say explain --data drawn/streets --weights w",
    "say intervene": "say intervene --data drawn/streets --weights w --picture 0",
}
SURGERY = {"need collapse", "need pointwise", "need truncate"}
WITHOUT_DEVICE = {
    "compare",
    "completion",
    "doctor",
    "export",
    "sites",
    "report",
    *SURGERY,
    "say explain",
    "say intervene",
}
THERE_IS_NONE = ("there is no option --device", "Options: --")
WRONG |= {
    f"audit {NET} {DIGITS} --minutes 0": ("minutes=0", "give a time above 0, such as 5"),
    "compare": ("0 folders", "give two or more that whatwhere audit wrote"),
    "compare empty": ("1 folder", "give two or more"),
    "compare nothing empty": ("nothing does not exist", "give a folder that whatwhere audit wrote"),
    "compare file.txt empty": ("file.txt is a file",),
    "compare empty foreign": ("empty holds no audit", "whatwhere audit --model MODEL --data DATA --out empty-audit"),
    "compare empty empty": ("empty is given twice",),
    "compare empty foreign --outt x": ("there is no option --outt", "--out"),
    "completion": ("0 shells", "give one of bash, zsh, tcsh"),
    "completion bash zsh": ("2 shells", "give one of"),
    "completion bahs": ("shell='bahs'", "Did you mean 'bash'"),
    "completion fish": ("shell='fish'", "Choices: bash, zsh, tcsh"),
    "doctor --seconds 0": ("seconds=0", "give a time above 0, such as 1"),
    f"audit {NET} {DIGITS} --without holt": ("without='holt'", "hold"),
}
WRONG |= {
    f"{typed} --device {device}": THERE_IS_NONE if name in WITHOUT_DEVICE else (f"device={device!r}", "give 'auto' or")
    for name, typed in COMMANDS.items()
    for device in ("tpu", "gpu")
}
WRONG |= {f"completion bash --device {d}": ("there is no option --device", "Options: none.") for d in ("tpu", "gpu")}


def test_every_command_was_given_a_wrong_device():
    there = dict(wings.TOP)
    for wing, package in wings.wings().items():
        there |= {f"{wing} {name}": where for name, where in wings.commands_of(package).items()}
    assert set(COMMANDS) == set(there)
    without = {n for n, where in there.items() if "--device" not in parser_of(n, loaded(where)).format_help()}
    assert without == WITHOUT_DEVICE


def test_the_list_is_long():
    assert len(WRONG) >= 80


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    (tmp_path / "file.onnx").write_text("mine")
    newer = {"format": "whatwhere network", "schema": 99, "versions": {"whatwhere": "9.0"}}
    for name, plain in {"foreign": {}, "newer": newer, "damaged": {"format": "whatwhere network"}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(plain))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", WRONG)
def test_a_mistake_is_answered_in_one_line(command, folder, capsys):
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    lines = [line for line in said.splitlines() if line.startswith("whatwhere: ")]
    assert len(lines) == 1
    assert "Traceback" not in said
    for expected in WRONG[command]:
        assert expected in lines[0]
    assert (folder / "file.txt").read_text() == "mine"
    assert set(before) <= set(folder.rglob("*"))


@pytest.mark.parametrize("command", MEANT)
def test_a_slip_of_the_finger_is_answered_with_what_was_meant(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("whatwhere: ")]
    assert len(said) == 1
    assert f" Did you mean {MEANT[command]}" in said[0]


@pytest.mark.parametrize("name", ["train", "need curve", "use compare", "say demo", "say train"])
def test_a_wrong_device_is_refused_before_a_folder_is_begun(name, folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit):
        main(f"{COMMANDS[name]} --device tpu".split())
    assert sorted(folder.rglob("*")) == before


def test_unknown_names_the_nearest():
    error = unknown("recipe", "fsat", ["fast", "demo"])
    assert str(error) == "recipe='fsat' matches nothing. Did you mean 'fast'? Choices: fast, demo."


def test_capitals_do_not_hide_a_name_and_other_words_are_translated():
    assert nearest("h", ["H", "V", "HS"]) == " Did you mean 'H'?"
    assert nearest("FAST", ["fast", "faster"]) == " Did you mean 'fast'?"
    assert nearest("qq", ["fast"]) == ""
    assert (
        nearest("quick", ["fast"], {"quick": ["fast", "fast2"], "quack": ["duck"]})
        == " Did you mean 'fast' or 'fast2'?"
    )
    assert nearest("quik", ["fast"], {"quick": ["fast"], "quack": ["duck"]}) == " Did you mean 'fast' or 'duck'?"
