import torch
import torch.nn.functional as F
from torch import Tensor, nn

from small_nets import HAND, PAPERS, SIZE, drawn
from whatwhere.need.studies.leaks import leak_notes
from whatwhere.network import Network
from whatwhere.site_table import list_sites


def notes(net: nn.Module, *names: str) -> list[str]:
    table = list_sites(net, input_size=SIZE)
    chosen = [s for s in table if s.name in names] or list(table.cuts)
    return leak_notes(Network(net), table, chosen)


def test_the_usual_cuts_of_a_residual_network_leave_nothing() -> None:
    assert notes(drawn(PAPERS["resnet"])) == []


def test_a_place_inside_of_a_block_is_named() -> None:
    assert notes(drawn(PAPERS["resnet"]), "layer2.0.conv2", "layer3.0") == [
        "Spatial information goes round layer2.0.conv2: not all of it is removed there."
    ]


class Open(nn.Module):
    """A shortcut by operators alone, around a branch that begins with one, in no block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        return self.fc(F.relu(x + self.conv(F.relu(x))).mean((2, 3)))  # the conv's padding marks the border


def test_what_no_module_holds_is_measured_and_named() -> None:
    net = drawn(Open)
    (note,) = notes(net, "stem")
    assert note.startswith("From stem on, positions still matter")
    assert note.endswith("something goes round convolutions by operators that no module holds: add.")
    assert notes(net, "conv") == ["Spatial information goes round conv: not all of it is removed there."]
    assert notes(drawn(HAND["averaged"])) == []
