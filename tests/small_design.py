"""Pictures and the design matrix of a k x k read-out, written out."""

import torch
from torch.nn import functional

SIZE = 9


def pictures(n, channels, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, SIZE, SIZE, generator=g) * torch.rand(channels, 1, 1, generator=g) * 3
    return x + 5 * torch.rand(channels, 1, 1, generator=g) + torch.linspace(0, 1, SIZE) * torch.rand(1, generator=g)


def design(x, kernel, padding=0):
    """(rows, columns): one row for each picture and position, columns by shift, then channel."""
    p = padding
    x = functional.pad(x, (p, p, p, p)).double()
    out = x.shape[-1] - kernel + 1
    rows = []
    for picture in x:
        for y in range(out):
            for z in range(out):
                patch = picture[:, y : y + kernel, z : z + kernel]
                rows.append(patch.permute(1, 2, 0).reshape(-1))
    return torch.stack(rows).numpy()
