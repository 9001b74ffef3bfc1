"""A network that holds position in two of its channels and brightness in a third, and two heads: *what* and *where*."""

import torch
from torch import Tensor, nn

import whatwhere as ww

SIDE = 16


class Placed(nn.Module):
    """Maps (N, 8, 16, 16): brightness, column and row, mixed by an orthogonal matrix; the rest is texture."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
        self.mix = nn.Conv2d(8, 8, 1, bias=False)
        ramp = torch.linspace(-1, 1, SIDE)
        with torch.no_grad():
            self.mix.weight.copy_(torch.linalg.qr(drawn)[0][:, :, None, None])
        self.register_buffer("places", torch.stack([ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)]))
        self.texture = nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        places = self.places.expand(len(x), -1, -1, -1)
        return self.mix(torch.cat([x.mean(1, keepdim=True), places, self.texture(x)], 1))


class Answer(nn.Module):
    """(N, 4) scores of the level of the bright quarter (`what`), or of its place (`where`)."""

    def __init__(self, mix: Tensor, task: str, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("unmix", mix.flatten(1).T.clone())
        self.register_buffer("levels", torch.tensor(levels) / 255)

    def forward(self, maps: Tensor) -> Tensor:
        own = torch.einsum("dc,nchw->ndhw", self.unmix, maps)
        bright, column, row = own[:, 0], own[:, 1], own[:, 2]
        if self.task == "what":
            return -(bright.amax((1, 2))[:, None] - self.levels).abs()
        x, y = ((bright * place).mean((1, 2)) for place in (column, row))
        return torch.stack([-y - x, -y + x, y - x, y + x], 1)


def placed(task: str, levels: tuple[int, ...]) -> ww.Network:
    """A network that recognises every picture of `quarters`, by its task."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = Placed()
    module = nn.Sequential(body, nn.Identity(), Answer(body.mix.weight.detach(), task, levels))
    return ww.Network(module, ww.Preprocessing(mean=(0.0,), std=(1.0,)), task, (3, SIDE, SIDE))
