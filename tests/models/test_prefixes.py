import pytest
import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.models.cifar import make
from whatwhere.models.prefixes import renamed_as

OWN = make("resnet20", width=0.25, classes=3).state_dict()


def put_before(prefix: str, *, but: str = "-") -> dict[str, Tensor]:
    return {n if n.startswith(but) else prefix + n: t for n, t in OWN.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "net.encoder.", "_orig_mod.", "module._orig_mod."]
)
@pytest.mark.parametrize("but", ["-", "fc"])
def test_a_prefix_is_taken_off_and_said(prefix: str, but: str) -> None:
    state, said = renamed_as(put_before(prefix, but=but), OWN, "weights='w'")
    assert state.keys() == OWN.keys()
    assert all(state[n] is OWN[n] for n in OWN)
    count = sum(not n.startswith(but) for n in OWN)
    assert f" taken off {count} of {len(OWN)} names" in said
    assert f"{prefix}conv1.weight' is the network's 'conv1.weight'" in said


def test_a_prefix_of_the_networks_is_put_before() -> None:
    wrapped = {f"backbone.{n}": t for n, t in OWN.items()} | {"head.weight": torch.zeros(2)}
    state, said = renamed_as(OWN, wrapped, "weights='w'")
    assert set(state) == set(wrapped) - {"head.weight"}
    assert f"the prefix 'backbone.' is put before {len(OWN)} of {len(OWN)} names" in said


def test_names_that_fit_stay_and_nothing_is_said() -> None:
    state, said = renamed_as(OWN, OWN, "weights='w'")
    assert (list(state), said) == (list(OWN), "")
    foreign = {f"blocks.{i}.attention.weight": torch.zeros(1) for i in range(9)}
    state, said = renamed_as(foreign, OWN, "weights='w'")
    assert (list(state), said) == (list(foreign), "")


def test_a_network_whose_own_names_begin_so_keeps_them() -> None:
    own = nn.ModuleDict({"model": nn.Linear(2, 2), "module": nn.ModuleDict({"model": nn.Linear(2, 2)})}).state_dict()
    state, said = renamed_as(own, own, "weights='w'")
    assert list(state) == list(own)
    assert said == ""


def test_what_cannot_be_told_apart_is_refused() -> None:
    both = put_before("student.") | put_before("teacher.")
    with pytest.raises(
        InputError, match=r"several times, behind '(student|teacher).' and '(student|teacher).'; keep one"
    ):
        renamed_as(both, OWN, "weights='w'")
    twice = dict(OWN) | {"module.conv1.weight": OWN["conv1.weight"], "module.fc.bias": OWN["fc.bias"]}
    with pytest.raises(InputError, match=r"two tensors for the network's 'conv1.weight': .* and 'module.conv1.weight'"):
        renamed_as(twice, OWN, "weights='w'")
