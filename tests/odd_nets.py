"""Small networks whose Python and operators are of less usual kinds, for tests of what is found by dataflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Odd(nn.Module):
    """A stem, a middle part that is given, and a head that averages.

    Args:
        middle: from the module and its stem's map (N, 8, H, W) to a map (N, 8, H', W').
        head: from the module and that map to what the network gives; None is scores of the mean.
        **parts: further modules and parameters.
    """

    def __init__(
        self,
        middle: Callable[[Any, Tensor], Tensor],
        head: Callable[[Any, Tensor], Any] | None = None,
        **parts: nn.Module | nn.Parameter,
    ) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.middle, self.end = middle, head
        for name, part in parts.items():
            setattr(self, name, part)
        self.last, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.norm(self.stem(x)))
        x = self.middle(self, x)
        if self.end:
            return self.end(self, x)
        return self.fc(F.relu(self.last(x)).mean((2, 3)))


def conv(i: int = 8, o: int = 8, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def out_given(m: Any, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    torch.add(x, m.a(F.relu(x)), out=y)
    return y


def in_place(m: Any, x: Tensor) -> Tensor:
    held = x
    x.add_(m.a(x.clone()))
    return held * 1.5 + m.b(F.relu(held))


def augmented(m: Any, x: Tensor) -> Tensor:
    identity = x
    y = m.a(F.relu(x))
    y += identity
    y *= 0.5
    return y


def mixer(m: Any, x: Tensor) -> Tensor:
    """Positions are mixed by one matrix, for all channels."""
    y = torch.einsum("nchw,hk->nckw", x, m.rows)
    return x + torch.einsum("nchw,wk->nchk", F.gelu(y), m.columns)


def unfolded(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    windows = F.unfold(x, 3, padding=1)
    return F.relu((m.kernel @ windows).view(n, c, h, w))


def shared(m: Any, x: Tensor) -> Tensor:
    return m.a(F.relu(m.a(F.relu(x))))


def scales(m: Any, x: Tensor) -> Tensor:
    half = m.b(F.interpolate(x, scale_factor=0.5, mode="bilinear"))
    return m.a(x) + F.interpolate(half, size=x.shape[-2:], mode="nearest")


def unet(m: Any, x: Tensor) -> Tensor:
    down = F.relu(m.a(F.max_pool2d(x, 2)))
    up = F.interpolate(F.relu(m.b(down)), scale_factor=2)
    return m.mix(torch.cat([x, up], 1))


def dense(m: Any, x: Tensor) -> Tensor:
    features = [x]
    for layer in (m.d1, m.d2, m.d3):
        features.append(F.relu(layer(torch.cat(features, 1))))
    return m.mix(torch.cat(features, 1))


def transposed(m: Any, x: Tensor) -> Tensor:
    return m.up(F.relu(m.down(x)))


def depth(m: Any, x: Tensor) -> Tensor:
    """Stochastic depth by hand."""
    for i, layer in enumerate((m.a, m.b)):
        if m.training and torch.rand(()) < 0.1 * i:
            continue
        x = x + layer(F.relu(x)) * (1 - 0.1 * i)
    return x


def channels_last(m: Any, x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1)
    y = y + m.out(F.gelu(m.lin(F.layer_norm(y, (8,)))))
    return m.a(y.permute(0, 3, 1, 2))


def channel_shuffle(m: Any, x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    y = torch.cat([left, F.relu(m.right(right))], 1)
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def glu(m: Any, x: Tensor) -> Tensor:
    return x + F.glu(m.wide(x), dim=1)


def coordinates(m: Any, x: Tensor) -> Tensor:
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
    columns = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).expand(n, 1, h, w)
    return F.relu(m.wider(torch.cat([x, rows, columns], 1)))


def embedded(m: Any, x: Tensor) -> Tensor:
    return F.relu(m.a(x + m.position))


def spatial_softmax(m: Any, x: Tensor) -> Tensor:
    """Each channel becomes its expected place, as a map of one value."""
    n, c, h, w = x.shape
    weights = m.a(x).flatten(2).softmax(-1).view(n, c, h, w)
    rows = torch.linspace(-1, 1, h).view(1, 1, h, 1)
    return x + (weights * rows).sum((2, 3), keepdim=True)


def global_context(m: Any, x: Tensor) -> Tensor:
    weights = m.key(x).flatten(2).softmax(-1)
    context = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)
    return x + m.point(context)


def attention(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    y, _ = m.heads(tokens, tokens, tokens, need_weights=False)
    return x + y.transpose(1, 2).reshape(n, c, h, w)


def sampled(m: Any, x: Tensor) -> Tensor:
    """Each position looks elsewhere, by what it sees."""
    n, _, h, w = x.shape
    grid = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 1, h, w], align_corners=False)
    offsets = 0.1 * torch.tanh(m.offset(x)).permute(0, 2, 3, 1)
    return F.relu(m.a(F.grid_sample(x, grid + offsets, align_corners=False)))


def fourier(m: Any, x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(x, norm="ortho")
    return x + m.a(torch.fft.irfft2(spectrum * m.filter, s=x.shape[-2:], norm="ortho"))


def rolled(m: Any, x: Tensor) -> Tensor:
    """A shift in the place of a kernel."""
    a, b = x.chunk(2, 1)
    return x + m.a(F.relu(torch.cat([a.roll(1, 2), b.roll(-1, 3)], 1)))


def sliced(m: Any, x: Tensor) -> Tensor:
    """Space to depth by slices, as YOLO's focus."""
    parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
    return F.relu(m.focus(torch.cat(parts, 1)))


def zeros_around(m: Any, x: Tensor) -> Tensor:
    """Padded by concatenation."""
    row = x.new_zeros(x.shape[0], x.shape[1], 1, x.shape[3])
    x = torch.cat([row, x, row], 2)
    column = x.new_zeros(x.shape[0], x.shape[1], x.shape[2], 1)
    return F.relu(m.bare(torch.cat([column, x, column], 3)))


def put_into(m: Any, x: Tensor) -> Tensor:
    """Padded by item assignment into zeros."""
    n, c, h, w = x.shape
    wide = x.new_zeros(n, c, h + 2, w + 2)
    wide[:, :, 1:-1, 1:-1] = x
    return F.relu(m.bare(wide))


def asked(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if x.mean() > 0.4 else m.b(x)


def one_by_one(m: Any, x: Tensor) -> Tensor:
    return torch.stack([F.relu(m.a(each[None]))[0] for each in x])


def whitened(m: Any, x: Tensor) -> Tensor:
    """A norm over space, by hand."""
    centred = x - x.mean((2, 3), keepdim=True)
    return m.a(centred / (x.var((2, 3), keepdim=True) + 1e-5).sqrt())


def strongest(m: Any, x: Tensor) -> Tensor:
    """The largest values of each channel, of anywhere."""
    top = m.a(x).flatten(2).topk(4, -1).values
    return x * torch.sigmoid(top.mean(-1))[..., None, None]


def cumulative(m: Any, x: Tensor) -> Tensor:
    return m.a(x.cumsum(2) * 0.1)


def lstm_head(m: Any, x: Tensor) -> Tensor:
    columns = m.last(x).mean(2).transpose(1, 2)
    states, _ = m.lstm(columns)
    return m.fc(states[:, -1])


def dict_head(m: Any, x: Tensor) -> dict[str, Tensor]:
    y = F.relu(m.last(x))
    return {"map": y, "scores": m.fc(y.mean((2, 3)))}


def tuple_head(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    y = F.relu(m.last(x))
    return m.fc(y.mean((2, 3))), m.fc(x.amax((2, 3)))


def flat_head(m: Any, x: Tensor) -> Tensor:
    return m.flat(F.adaptive_avg_pool2d(F.relu(m.last(x)), 4).reshape(len(x), -1))


def std_head(m: Any, x: Tensor) -> Tensor:
    """Statistics pooling: the mean and the standard deviation over space."""
    y = F.relu(m.last(x))
    return m.stats(torch.cat([y.mean((2, 3)), y.flatten(2).std(-1)], 1))


def centre_head(m: Any, x: Tensor) -> Tensor:
    y = m.last(x)
    return m.fc(y[:, :, y.shape[2] // 2, y.shape[3] // 2])


def sum_head(m: Any, x: Tensor) -> Tensor:
    """A sum over space, which is not the mean."""
    return m.fc(F.relu(m.last(x)).sum((2, 3)) / 100)


def norm_head(m: Any, x: Tensor) -> Tensor:
    return m.fc(F.normalize(F.relu(m.last(x)).flatten(2), dim=-1).mean(-1))


def _weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / shape[-1] ** 0.5)


ODD: dict[str, Callable[[], nn.Module]] = {
    "out given": lambda: Odd(out_given, a=conv()),
    "in place": lambda: Odd(in_place, a=conv(), b=conv()),
    "augmented": lambda: Odd(augmented, a=conv()),
    "mixer": lambda: Odd(mixer, rows=_weights(32, 32), columns=_weights(32, 32)),
    "unfolded": lambda: Odd(unfolded, kernel=_weights(8, 72)),
    "shared": lambda: Odd(shared, a=conv()),
    "scales": lambda: Odd(scales, a=conv(), b=conv()),
    "unet": lambda: Odd(unet, a=conv(), b=conv(), mix=conv(16, 8, 1)),
    "dense": lambda: Odd(dense, d1=conv(8, 4), d2=conv(12, 4), d3=conv(16, 4), mix=conv(20, 8, 1)),
    "transposed": lambda: Odd(transposed, down=conv(stride=2), up=nn.ConvTranspose2d(8, 8, 4, 2, 1)),
    "depth": lambda: Odd(depth, a=conv(), b=conv()),
    "channels last": lambda: Odd(channels_last, lin=nn.Linear(8, 16), out=nn.Linear(16, 8), a=conv()),
    "channel shuffle": lambda: Odd(channel_shuffle, right=conv(4, 4)),
    "glu": lambda: Odd(glu, wide=conv(8, 16)),
    "coordinates": lambda: Odd(coordinates, wider=conv(10, 8)),
    "embedded": lambda: Odd(embedded, a=conv(), position=_weights(1, 8, 32, 32)),
    "spatial softmax": lambda: Odd(spatial_softmax, a=conv()),
    "global context": lambda: Odd(global_context, key=conv(8, 1, 1), point=conv(8, 8, 1)),
    "attention": lambda: Odd(attention, heads=nn.MultiheadAttention(8, 2, batch_first=True)),
    "sampled": lambda: Odd(sampled, offset=conv(8, 2), a=conv()),
    "fourier": lambda: Odd(fourier, a=conv(8, 8, 1), filter=_weights(8, 32, 17)),
    "rolled": lambda: Odd(rolled, a=conv(8, 8, 1)),
    "sliced": lambda: Odd(sliced, focus=conv(32, 8)),
    "zeros around": lambda: Odd(zeros_around, bare=nn.Conv2d(8, 8, 3)),
    "put into": lambda: Odd(put_into, bare=nn.Conv2d(8, 8, 3)),
    "asked": lambda: Odd(asked, a=conv(), b=conv()),
    "one by one": lambda: Odd(one_by_one, a=conv()),
    "whitened": lambda: Odd(whitened, a=conv()),
    "strongest": lambda: Odd(strongest, a=conv()),
    "cumulative": lambda: Odd(cumulative, a=conv()),
    "lstm head": lambda: Odd(shared, lstm_head, a=conv(), lstm=nn.LSTM(8, 8, batch_first=True)),
    "dict head": lambda: Odd(shared, dict_head, a=conv()),
    "tuple head": lambda: Odd(shared, tuple_head, a=conv()),
    "flat head": lambda: Odd(shared, flat_head, a=conv(), flat=nn.Linear(128, 5)),
    "statistics head": lambda: Odd(shared, std_head, a=conv(), stats=nn.Linear(16, 5)),
    "centre head": lambda: Odd(shared, centre_head, a=conv()),
    "sum head": lambda: Odd(shared, sum_head, a=conv()),
    "norm head": lambda: Odd(shared, norm_head, a=conv()),
}
SIZE = (3, 32, 32)
