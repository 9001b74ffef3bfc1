"""EfficientNet-lite0 on CIFAR-100: ImageNet's features, frozen, and a linear classifier on the pooled ones.

    python cifar100.py WEIGHTS CIFAR-100 OUT [--pictures 20000] [--side 96]

Writes OUT, a folder that every `--model` takes. The classifier is a multinomial logistic regression (L-BFGS on
standardised features, folded back into the linear layer); its penalty is chosen on a tenth of the training pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import whatwhere as ww
from whatwhere.data import Split

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)


def features(net: ww.Network, split: Split) -> tuple[Tensor, Tensor]:
    """(N, 1280) what enters the classifier, and the labels."""
    entered: list[Tensor] = []
    hook = net.module.classifier.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    labels = []
    with torch.no_grad():
        for images, of_these in split.batches(100, geometry=net.preprocessing):
            net.module(net.prepared(images))
            labels.append(of_these)
    hook.remove()
    return torch.cat(entered), torch.cat(labels)


def regression(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (classes, features) and bias that minimise cross entropy + penalty * sum of squares."""
    weight, bias = torch.zeros(100, x.shape[1], requires_grad=True), torch.zeros(100, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        total = cross_entropy(x @ weight.t() + bias, y) + penalty * weight.square().sum()
        total.backward()
        return total

    search.step(loss)
    return weight.detach(), bias.detach()


def right(x: Tensor, y: Tensor, fitted: tuple[Tensor, Tensor]) -> float:
    return float(((x @ fitted[0].t() + fitted[1]).argmax(1) == y).float().mean())


def fit(layer: nn.Linear, x: Tensor, y: Tensor) -> None:
    mean, std = x.mean(0), x.std(0) + 1e-6
    z, held = (x - mean) / std, len(x) // 10
    tried = {p: right(z[:held], y[:held], regression(z[held:], y[held:], p)) for p in PENALTIES}
    print("accuracy on the held-out tenth by penalty:", tried)
    weight, bias = regression(z, y, max(tried, key=lambda p: tried[p]))
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - (weight / std) @ mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=96)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = ww.load_model("timm/tf_efficientnet_lite0", weights=args.weights, classes=1000)
    small = ww.load_model("timm/tf_efficientnet_lite0", classes=100)
    kept = {k: v for k, v in net.module.state_dict().items() if not k.startswith("classifier.")}
    small.module.load_state_dict(kept, strict=False)
    sized = replace(small.preprocessing, size=(args.side, args.side), crop_pct=1.0)
    small = replace(small, preprocessing=sized, input_size=(3, args.side, args.side), drawn="")
    data = ww.load_data(args.data)
    fit(small.module.classifier, *features(small, data.train.take(args.pictures)))
    ww.save(small, args.out)


if __name__ == "__main__":
    main()
