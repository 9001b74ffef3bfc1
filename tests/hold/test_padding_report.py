from whatwhere.hold.padding_report import PADDINGS, PaddingReport
from whatwhere.surgery import Replaced

CONV = Replaced("1.conv", "Conv2d(3, 4, kernel_size=(3, 3))", "Conv2d(3, 4, padding_mode=reflect)")
PAD = Replaced("net", "F.pad zeros", "reflect")
SHORTCUT = Replaced("2.downsample", "None", "FittedShortcut()")


def test_everything_is_said() -> None:
    report = PaddingReport("reflect", (3, 8, 8), (PAD, PAD, CONV), (PAD,), 3, ("A note.",))
    assert report.changed == {"F.pad": 2, "Conv2d": 1}
    assert str(report).splitlines() == [
        "padding reflect: 1 modules and 2 operators changed; runs on (3, 8, 8).",
        "  net: F.pad zeros -> reflect",
        "  net: F.pad zeros -> reflect",
        f"  {CONV}",
        "  net: F.pad zeros -> reflect (adds nothing at this size)",
        "3 calls pad channels or what is no map, and stay.",
        "A note.",
    ]


def test_shortcuts_count_as_such() -> None:
    assert PaddingReport("none", (3, 8, 8), (CONV, SHORTCUT)).changed == {"Conv2d": 1, "shortcut": 1}
    assert len(PADDINGS) == 6
