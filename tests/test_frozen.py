"""What is frozen stays, and all else is as it was before."""

import torch
from torch import nn

from whatwhere.frozen import NOTHING, Frozen


def net() -> nn.Sequential:
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.Sequential(inner, nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_modules_are_in_evaluation_mode_with_all_that_they_hold():
    module = net().eval()
    Frozen(("0", "1", "of another network")).train(module)
    assert [n for n, m in module.named_modules() if not m.training] == ["0", "0.0", "0.1", "0.2", "1"]
    NOTHING.train(module)
    assert all(m.training for m in module.modules())


def test_parameters_take_no_gradient_in_the_block_and_are_as_they_were_after_it():
    module = net()
    module[1].bias.requires_grad_(False)
    frozen = Frozen(parameters=("0.0.weight", "1.bias", "of.another"))
    try:
        with frozen.held(module):
            held = [n for n, p in module.named_parameters() if not p.requires_grad]
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert held == ["0.0.weight", "1.bias"]
    assert [n for n, p in module.named_parameters() if not p.requires_grad] == ["1.bias"]


def test_a_step_of_training_leaves_statistics_alone():
    module = net()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    Frozen(("0",), ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias")).train(module)
    module(torch.rand(4, 3, 5, 5))
    changed = [k for k, v in module.state_dict().items() if not torch.equal(v, before[k])]
    assert changed == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_plain_values_do_not_depend_on_the_order():
    frozen = Frozen(("1", "0"), ("b", "a"))
    assert frozen.to_dict() == Frozen(("0", "1"), ("a", "b")).to_dict()
    assert frozen.to_dict() == {"modules": ["0", "1"], "parameters": ["a", "b"]}
