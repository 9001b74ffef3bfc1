"""What to type next: each command is one that the command line takes."""

import shlex
from dataclasses import replace

from small_audit import audit, need
from whatwhere import wings
from whatwhere.arguments import parsed
from whatwhere.audits.asked import judged_words, say_command, words_of
from whatwhere.audits.next_commands import next_commands
from whatwhere.audits.study import Audit
from whatwhere.lab.study import loaded

STUDY = Audit("timm/resnet18", "my pictures", pretrained=True, classes=5, score="top5", seed=3)
NARROWER = "Narrower intervals, from some 200 pictures instead of 50"


def taken(command):
    """The options of a command, which is refused where the command line would."""
    words = shlex.split(command)
    assert words[0] == "whatwhere"
    if words[1] in wings.TOP:
        return parsed(" ".join(words[:2]), loaded(wings.TOP[words[1]]), words[2:])
    where = wings.commands_of(wings.wings()[words[1]])[words[2]]
    return parsed(" ".join(words[:3]), loaded(where), words[3:])


def given(study=STUDY, **changes):
    found = audit()
    own = {"words": words_of(study), "judged": judged_words(study), "pictures": 900}
    data = {"name": "d", "sizes": {"train": 9}}
    return replace(found, **{"settings": {**found.settings, **own}, "data": data, **changes})


def test_where_nothing_is_recommended_fine_tuning_is():
    found = next_commands(given())
    assert list(found.values()) == [
        "whatwhere need recover --model timm/resnet18 --data 'my pictures' --classes 5 --pretrained true --sites s0 --out recover",
        "whatwhere audit --model timm/resnet18 --data 'my pictures' --classes 5 --pretrained true --score top5 --seed 3 "
        "--minutes 20 --out audit-longer",
    ]
    recover, longer = map(taken, found.values())
    assert (recover["data"], recover["sites"], recover["pretrained"]) == ("my pictures", ("s0",), True)
    assert (longer["score"], longer["seed"], longer["minutes"]) == ("top5", 3, 20.0)


def test_without_pictures_to_train_on_nothing_is_fine_tuned():
    assert list(next_commands(given(data={"name": "d", "sizes": {"test": 9}}))) == [NARROWER]


def test_with_all_pictures_more_time_is_not_said_to_help():
    few = given()
    assert not [
        label for label in next_commands(replace(few, settings={**few.settings, "pictures": 50})) if "Narr" in label
    ]


def test_the_recommended_network_is_made_instead():
    advised = need((0.0, 0.3), site="s0")
    made = replace(advised, commands={"GAP+FC from s0 on (the last 50 %)": "do it"})
    assert next(iter(next_commands(replace(audit(need=made))).values())) == "do it"


def test_concepts_by_the_command_that_the_audit_names():
    study = Audit("pspnet/resnet18", "drawn/streets", weights="W.safetensors", width=0.5, classes=7)
    found = next_commands(given(study, left_out={"say": say_command(study, "fuse.0")}))
    command = found["Make it say what is where, in concepts"]
    assert taken(command)["sites"] == ("fuse.0",)
    assert "--classes" not in command  # which that command does not take
    assert "concepts" not in " ".join(next_commands(given(left_out={"say": "for those, whatwhere say compare."})))


def test_a_librarys_weights_are_saved_before_a_bottleneck_is_trained():
    """The command has no --pretrained: without these words it would train behind random weights."""
    said = say_command(Audit("torchvision/fcn_resnet50", "drawn/streets", pretrained=True), "backbone.layer4")
    before, _, command = said.partition("whatwhere ")
    assert "ww.save(ww.load_model('torchvision/fcn_resnet50', pretrained=True), 'net')" in before
    assert taken(f"whatwhere {command}")["model"] == "net"
    assert "concepts" not in " ".join(next_commands(given(left_out={"say": said})))


def test_an_audit_of_objects_has_no_command_for_them():
    assert next_commands(audit()) == {}
