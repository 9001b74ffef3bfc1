"""What to type next: each command is one that the command line takes."""

import shlex
from dataclasses import replace

from small_audit import audit, need
from whatwhere.audits.next_commands import next_commands

WORDS = ["--model", "cifar/vgg11", "--data", "my pictures"]


def given(**changes):
    found = audit()
    settings = {**found.settings, "words": WORDS}
    return replace(found, **{"settings": settings, "data": {"name": "d", "sizes": {"train": 9}}, **changes})


def test_where_nothing_is_recommended_fine_tuning_is():
    found = next_commands(given())
    assert list(found.values()) == [
        "whatwhere need recover --model cifar/vgg11 --data 'my pictures' --sites s0 --out recover",
        "whatwhere audit --model cifar/vgg11 --data 'my pictures' --minutes 20 --out audit-longer",
    ]
    assert shlex.split(found["Intervals half as wide"])[5] == "my pictures"


def test_without_pictures_to_train_on_nothing_is_fine_tuned():
    assert list(next_commands(given(data={"name": "d", "sizes": {"test": 9}}))) == ["Intervals half as wide"]


def test_the_recommended_network_is_made_instead():
    advised = need((0.0, 0.3), site="s0")
    made = replace(advised, commands={"GAP+FC from s0 on (the last 50 %)": "do it"})
    assert next(iter(next_commands(replace(audit(need=made))).values())) == "do it"


def test_concepts_by_the_command_that_the_audit_names():
    why = "a bottleneck must be trained: whatwhere say compare --model m --data d --sites s --out say"
    found = next_commands(given(left_out={"say": why}))
    assert (
        found["Make it say what is where, in concepts"]
        == "whatwhere say compare --model m --data d --sites s --out say"
    )
    assert "concepts" not in " ".join(next_commands(given(left_out={"say": "for those, whatwhere say compare."})))


def test_an_audit_of_objects_has_no_command_for_them():
    assert next_commands(audit()) == {}
