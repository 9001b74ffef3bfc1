"""Channels of noise know neither the picture nor the place, and are smooth."""

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.noise import smooth_noise


def drawn(seed: int, n: int = 4000, size=(6, 8), **options) -> torch.Tensor:
    return smooth_noise(n, size, torch.Generator().manual_seed(seed), **options)


def test_every_place_is_alike_and_every_draw_another():
    x = drawn(0)
    assert torch.equal(x, drawn(0))
    assert not torch.equal(x, drawn(1))
    spread = x.std(0)
    assert float(spread.max() / spread.min()) < 1.1  # a blur that stops at the border would favour it
    assert x.mean(0).abs().max() < 0.06 * spread.mean()
    assert abs(float(torch.corrcoef(x[:2].flatten(1))[0, 1])) < 1


def test_it_is_the_convolution_with_a_gaussian_whose_ends_meet():
    h, w, reach = 6, 8, 1.3
    white = torch.randn(1, h, w, generator=torch.Generator().manual_seed(3)).double()
    expected = torch.zeros(h, w, dtype=torch.float64)
    fy, fx = torch.fft.fftfreq(h).double(), torch.fft.fftfreq(w).double()
    for y in range(h):
        for x in range(w):
            wave = torch.exp(-2 * (torch.pi * reach) ** 2 * (fy[:, None] ** 2 + fx**2))
            kernel = torch.fft.ifft2(wave).real  # (h, w), at shifts around (0, 0)
            expected[y, x] = sum(kernel[(y - i) % h, (x - j) % w] * white[0, i, j] for i in range(h) for j in range(w))
    assert torch.allclose(drawn(3, 1, (h, w), reach=reach)[0].double(), expected, atol=1e-6)


def test_the_wider_the_blur_the_more_neighbours_agree():
    def together(reach: float) -> float:
        x = drawn(0, 400, (12, 16), reach=reach)
        return float(torch.corrcoef(torch.stack([x[:, :, :-1].flatten(), x[:, :, 1:].flatten()]))[0, 1])

    assert abs(together(0.0)) < 0.02
    assert 0.2 < together(0.5) < together(2.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [((0, (3, 4), 1.0), "channels=0"), ((2, (3, 0), 1.0), "size="), ((2, (3, 4), -1.0), "reach=-1")],
)
def test_what_cannot_be_drawn_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        smooth_noise(*given[:2], torch.Generator(), given[2])
