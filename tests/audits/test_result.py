"""The result: kept and read again, its table and its page."""

import json
from dataclasses import replace

import pytest

import whatwhere as ww
from small_audit import EVIL, audit, hold, need, page, row
from whatwhere.audits.result import AuditResult


def test_it_is_kept_and_read_again(tmp_path):
    found = audit()
    found.save(tmp_path)
    again = ww.load_result(tmp_path)
    assert isinstance(again, AuditResult)
    assert again.conclusion == found.conclusion
    assert again.table() == found.table()
    assert again.known == [{"question": "q", "expected": "e", "found": "f", "right": True}]


def test_a_line_for_each_place():
    last = audit().table()[-1]
    assert last == {
        "site": "s0",
        "share %": "33",
        "drop, shuffled": "0.00",
        "95 %": "[-2.00, 2.00]",
        "drop, GAP+FC": "0.00",
        "GAP+FC 95 %": "[-2.00, 2.00]",
        "SPC of H": "0.80",
        "H, untrained": "0.90",
        "H, circular padding": "0.10",
        "SPC of V": "",
        "SPC of G": "",
        "sees half within (px)": "3",
    }


def test_what_a_collapse_loses_and_what_is_held_of_other_targets_is_in_the_table_too():
    rows = (replace(row("network", "s1", 0.7), target="V"), replace(row("network", "s1", 0.6), target="G"))
    line = audit(need=need(), hold=replace(hold(), rows=(*hold().rows, *rows))).table()[1]
    assert line["site"] == "s1"
    assert (line["drop, shuffled"], line["drop, GAP+FC"], line["GAP+FC 95 %"]) == ("30.00", "15.00", "[13.00, 17.00]")
    assert (line["SPC of H"], line["SPC of V"], line["SPC of G"]) == ("0.80", "0.70", "0.60")


def test_the_page_has_the_answer_what_was_left_out_and_its_own_data():
    text = page(audit())
    assert "It needs to know where" in text
    assert "because" in text
    assert "Self-check: 1 of 1 questions whose answers are known came out right." in text
    data = text.split('id="charts">')[1].split("</script>")[0]
    assert [c["name"] for c in json.loads(data)] == ["strip", "need", "hold"]
    assert len(text) < 2_000_000


def test_what_gates_cost_is_read_with_its_units():
    row = {
        "method": "se",
        "places": 9,
        "parameters": 4671912,
        "flops": 770412736,
        "latency_ms": 13.794645500070146,
        "batch": 4,
    }
    found = AuditResult.from_dict({**audit().to_dict(), "parts": {"use": {"rows": [row]}}})
    (table,) = [t for t in found.report().tables if "gates" in t.title]
    assert table.rows == [
        {
            "gate": "SE",
            "places": "9",
            "parameters": "4,671,912",
            "FLOPs per picture": "770,412,736",
            "ms per picture": "13.79",
            "in batches of": "4",
        }
    ]


def test_what_the_intervals_hold_is_what_was_drawn():
    plain = json.loads(json.dumps(audit().to_dict()).replace('"covers": ""', '"covers": "test pictures"'))
    about = AuditResult.from_dict(plain).report().charts[1].about
    assert "Intervals cover test pictures, not another training." in about
    assert "spatial mean" not in about  # no such curve
    assert "GAP+FC: what follows" in about


def test_names_of_the_users_are_escaped_in_data_and_text():
    evil = AuditResult.from_dict({**audit().to_dict(), "network": EVIL, "left_out": {"say": EVIL}})
    sites = tuple({**s, "name": EVIL + s["name"]} for s in evil.sites)
    text = page(AuditResult.from_dict({**evil.to_dict(), "sites": sites}))
    assert EVIL not in text
    assert "\\u003cscript\\u003ealert" in text


def test_commands_are_those_of_the_recommended_network():
    advised = need((0.0, 0.3), site="s0")
    commands = {"GAP+FC from s0 on (the last 50 %)": "do it", "GAP+FC from s1 on (the last 100 %)": "not"}
    found = audit(need=type(advised).from_dict({**advised.to_dict(), "commands": commands}))
    assert list(found.commands.values()) == ["do it"]


def test_without_any_part_there_is_a_figure_all_the_same():
    empty = AuditResult("net", {}, {}, {"minutes": 1.0}, (), {})
    assert empty.plot().get_axes() == []
    assert empty.conclusion == ""


@pytest.mark.parametrize(("minutes", "said"), [(1.0, "1 minute was given"), (0.5, "0.5 minutes were given")])
def test_the_minutes_that_were_given(minutes, said):
    assert said in replace(audit(), settings={"minutes": minutes}).report().lead
