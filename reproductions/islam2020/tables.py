"""Tables 1 to 4 of the paper's layout, from the results that are here, beside the paper's numbers; prints markdown.

The large results are not kept here: run.py measures them.

python reproductions/islam2020/tables.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from whatwhere.hold.studies.readout_result import ReadoutResult, Row

HERE = Path(__file__).parent / "at-224"
TARGETS = ("H", "V", "G", "HS", "VS")
# SPC / MAE on PASCAL-S, as the paper prints them.
PAPER_1 = {
    "PosENet (rgb)": (".012/.251", ".131/.248", "-.001/.233", "-.001/.712", ".006/.723"),
    "VGG-16": (".742/.149", ".816/.129", ".814/.109", ".405/.556", ".374/.567"),
    "ResNet-152": (".933/.084", ".951/.083", ".936/.070", ".534/.528", ".520/.537"),
}
NETWORKS = {
    "VGG-16, CIFAR-100": "vgg16",
    "SqueezeNet 1.1, ImageNet (1x1)": "squeezenet",
    "VGG-11 trunk, ImageNet": "vgg11-trunk",
}


def load(name: str) -> ReadoutResult | None:
    folder = HERE / name
    return ReadoutResult.load(folder) if (folder / "result.json").exists() else None


def one(result: ReadoutResult, network: str = "network", **wanted: object) -> Row | None:
    return next(iter(result.of(network, **wanted)), None)


def both(row: Row | None) -> str:
    return f"{row.spc.mean:.3f}/{row.mae.mean:.3f}" if row else ""


def spc(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row.spc.mean:.3f} [{row.spc.low:.2f}, {row.spc.high:.2f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def first() -> str:
    """Networks and inputs, all sites together."""
    rows = [[f"paper, {n}", "", "photographs", *v] for n, v in PAPER_1.items()]
    for label, name in NETWORKS.items():
        result = load(name)
        if result is None:
            continue
        kernel = result.rows[0].kernel
        for readout in ("official", "ridge"):
            how = {"readout": readout, "kernel": kernel}
            raw = [both(one(result, site="rgb", inputs="pictures", target=t, **how)) for t in TARGETS]
            rows.append([f"{label}: rgb", readout, "photographs", *raw])
            for network in ("network", "untrained", *(f"padding {m}" for m in ("circular", "none"))):
                values = [both(one(result, network, site="all", inputs="pictures", target=t, **how)) for t in TARGETS]
                if any(values):
                    shown = f"{label}: trained" if network == "network" else f"{label}: {network}"
                    rows.append([shown, readout, "photographs", *values])
            for inputs in ("black", "white", "noise"):
                for network in ("network", "untrained"):
                    found = [one(result, network, site="all", inputs=inputs, target=t, **how) for t in TARGETS]
                    if not any(found):
                        continue
                    shown = "trained" if network == "network" else network
                    rows.append([f"{label}: {shown}", readout, inputs, *map(both, found)])
    return table(["network", "read-out", "pictures", *(f"{t} SPC/MAE" for t in TARGETS)], rows)


def second() -> str:
    """Kernels and layers of the read-out, VGG-16, all sites together."""
    paper = {
        "official k = 1": (".542", ".724", ".317"),
        "official k = 3": (".742", ".814", ".405"),
        "official k = 7": (".828", ".816", ".487"),
        "official 2 layers": (".797", ".828", ".483"),
        "official 3 layers": (".830", ".835", ".491"),
    }
    runs = {
        "official k = 1": ("vgg16", "official", 1),
        "official k = 3": ("vgg16", "official", 3),
        "official k = 7": ("vgg16-kernel7", "official", 7),
        "official 2 layers": ("vgg16-layers2", "official", 3),
        "official 3 layers": ("vgg16-layers3", "official", 3),
        "ridge k = 1": ("vgg16", "ridge", 1),
        "ridge k = 3": ("vgg16", "ridge", 3),
    }
    rows = []
    for label, (name, readout, kernel) in runs.items():
        result = load(name)
        if result is None:
            continue
        how = {"site": "all", "inputs": "pictures", "readout": readout, "kernel": kernel}
        for network in ("network", "untrained"):
            values = [spc(one(result, network, target=t, **how)) for t in ("H", "G", "HS")]
            shown = "trained" if network == "network" else network
            known = list(paper.get(label, ("", "", ""))) if network == "network" else ["", "", ""]
            rows.append([label, shown, *[v for pair in zip(values, known, strict=True) for v in pair]])
    return table(["read-out", "network", "H", "paper", "G", "paper", "HS", "paper"], rows)


def third() -> str:
    """Each level alone."""
    paper = {"H": (".101", ".344", ".472", ".610", ".657"), "G": (".241", ".404", ".588", ".653", ".693")}
    rows = [
        [f"paper, VGG-16, {t}", "official", *v, all_]
        for (t, v), all_ in zip(paper.items(), (".742", ".814"), strict=True)
    ]
    for label, name in NETWORKS.items():
        result = load(name)
        if result is None:
            continue
        kernel = result.rows[0].kernel
        sites = [r.site for r in result.of(target="H", inputs="pictures", kernel=kernel, readout="ridge")]
        levels = [s for s in sites if s not in ("all", "rgb")]
        for t in ("H", "G"):
            for readout in ("official", "ridge"):
                for network in ("network", "untrained", "padding circular"):
                    how = {"target": t, "inputs": "pictures", "kernel": kernel, "readout": readout}
                    values = [one(result, network, site=s, **how) for s in [*levels, "all"]]
                    if not any(values):
                        continue
                    shown = "trained" if network == "network" else network
                    cells = [f"{v.spc.mean:.3f}" if v else "" for v in values]
                    rows.append([f"{label}, {shown}, {t}", readout, *cells[:-1], *[""] * (5 - len(levels)), cells[-1]])
    return table(["network, target", "read-out", "f1", "f2", "f3", "f4", "f5", "all"], rows)


def fourth() -> str:
    """Padding: of the read-out on raw pictures, and of networks trained with one padding or another."""
    paper = {"0": (".012", "-.001", "-.001"), "1": (".274", ".205", ".148"), "2": (".397", ".380", ".214")}
    rows = []
    for pad, known in paper.items():
        for raw, readout in ((r, o) for r in ("", "-raw") for o in ("official", "ridge")):
            result = load(f"rgb-pad{pad}{raw}")
            if result:
                how = {"site": "rgb", "inputs": "pictures", "readout": readout, "kernel": 3}
                values = [spc(one(result, target=t, **how)) for t in ("H", "G", "HS")]
                shown = known if readout == "official" and raw else ("", "", "")
                pairs = [v for pair in zip(values, shown, strict=True) for v in pair]
                scaled = "in [0, 1]" if raw else "normalised"
                rows.append([f"rgb alone, {scaled}, read-out pads {pad}", readout, "", *pairs])
    without = {"zeros": (".742", ".814", ".405"), "none": (".381", ".359", ".011")}
    for padding in ("zeros", "none", "circular", "f-conv"):
        result = load(f"twin-{padding}")
        for readout in ("official", "ridge"):
            for network in ("network", "untrained"):
                if result:
                    how = {"site": "all", "inputs": "pictures", "readout": readout, "kernel": 3}
                    values = [spc(one(result, network, target=t, **how)) for t in ("H", "G", "HS")]
                    shown = (
                        without.get(padding, ("",) * 3) if (readout, network) == ("official", "network") else ("",) * 3
                    )
                    pairs = [v for pair in zip(values, shown, strict=True) for v in pair]
                    label = "trained" if network == "network" else network
                    rows.append([f"twin with padding {padding}", readout, label, *pairs])
    return table(["what", "read-out", "network", "H", "paper", "G", "paper", "HS", "paper"], rows)


def compared() -> str:
    """Closed form against the published read-out: mean SPC over sites and the targets H, V, G."""
    rows = []
    for folder in sorted(f.name for f in HERE.iterdir() if (f / "result.json").exists()):
        result = load(folder) if "pattern" not in folder else None
        for network in dict.fromkeys(r.network for r in result.rows) if result else ():
            every = [r for r in result.of(network, inputs="pictures") if r.target in "HVG"] if result else []
            found = {(r.readout, r.site, r.kernel, r.target): r.spc.mean for r in every}
            pairs = [
                (k, v, found[("official", *k[1:])])
                for k, v in found.items()
                if k[0] == "ridge" and ("official", *k[1:]) in found
            ]
            if pairs:
                ahead = [f"{k[1]} {k[3]} k={k[2]} ({o:.2f} > {r:.2f})" for k, r, o in pairs if o > r + 0.01]
                ours, theirs = (sum(p[i] for p in pairs) / len(pairs) for i in (1, 2))
                rows.append([folder, network, f"{ours:.3f}", f"{theirs:.3f}", str(len(pairs)), "; ".join(ahead)])
    return table(["result", "network", "ridge", "official", "pairs", "official ahead by more than .01"], rows)


def warn_of_missing() -> None:
    missing = [f.parent.name for f in sorted(HERE.glob("*/study.json")) if not (f.parent / "result.json").exists()]
    if missing:
        how = "python reproductions/restore.py islam2020"
        print(f"left out, no result.json is here: {', '.join(missing)}; `{how}` brings it back.", file=sys.stderr)


def main() -> None:
    warn_of_missing()
    for number, made in enumerate((first, second, third, fourth), 1):
        print(f"### Table {number}. {made.__doc__}\n\n{made()}\n")
    print(f"### {compared.__doc__}\n\n{compared()}\n")


if __name__ == "__main__":
    main()
