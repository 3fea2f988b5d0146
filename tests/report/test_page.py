import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from onereward.charts import Axis, Mark, Point, Row, interval_chart, percent, reliability_panel, signed
from onereward.metrics.accuracy import MEAN
from onereward.metrics.gsb import ALL
from onereward.metrics.judge_table import judge_table
from onereward.report import Report, print_summary, write_report, write_table
from onereward.report.page import render
from onereward.report.words import chance, points
from onereward.terms import DIMENSIONS, Task
from tests.metrics.answers import answer
from tests.report.fake import fake_report

VOID = {"meta", "img", "br"}


class WellFormed(HTMLParser):
    """Fails on a tag that is closed out of order; collects what the page refers to and shows."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        """Text of each cell of each line of each table."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag in ("img", "svg"):
            self.pictures.append(values)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def report() -> Report:
    return fake_report(triplets=20)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def parsed(page: Path) -> WellFormed:
    parser = WellFormed()
    parser.feed(page.read_text())
    assert parser.open == []
    return parser


def test_the_page_needs_nothing_but_itself(page: Path, parsed: WellFormed) -> None:
    assert parsed.references and all(reference.startswith("data:image/") for reference in parsed.references)
    assert "<script" not in page.read_text() and "@import" not in page.read_text() and "url(" not in page.read_text()


def test_every_picture_has_words(parsed: WellFormed) -> None:
    assert len(parsed.pictures) > 60
    assert all(picture.get("alt") or picture.get("aria-label") for picture in parsed.pictures)


def test_prompts_are_escaped(page: Path) -> None:
    assert "<AB>" not in page.read_text()
    assert "&lt;AB&gt;" in page.read_text()


def test_report_json_holds_the_agreed_rows(page: Path, report: Report) -> None:
    content = json.loads(page.with_name("report.json").read_text())
    assert {"judge", "gsb", "scores", "timing", "versions", "curves", "drift", "skips"} <= content.keys()
    assert {"task", "dimension", "variant", "n", "accuracy", "low", "high"} <= content["judge"][0].keys()
    assert {"interval", "flips", "ece", "ece_floor", "brier", "outside", "ties"} <= content["judge"][0].keys()
    assert {"variant", "against", "n", "gained", "lost", "difference", "p", "p_holm"} <= content["comparisons"][
        0
    ].keys()
    assert {"kind", "task", "dimension", "n", "accuracy"} <= content["ceiling"][0].keys()
    assert {"variant", "dimension", "temperature", "ece", "bins"} <= content["reliability"][0].keys()
    expected = {"editor", "task", "dimension", "good", "same", "bad", "net", "low", "high", "n", "seed"}
    assert content["gsb"][0].keys() == expected
    assert {(row["editor"], row["task"]) for row in content["gsb"] if row["dimension"] == "all"} == {
        (editor, task) for editor in ("algorithm-1", "algorithm-2") for task in ("fill", "extend", "remove", "text")
    }
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in content["judge"])


def test_every_accuracy_stands_on_the_page_with_interval_and_n(parsed: WellFormed, report: Report) -> None:
    tables = [table for table in parsed.tables if table[0][0] == "Judge"]
    accuracy, differences = tables
    names = ["Untuned", "Tuned, pairs only", "+ task", "+ task + dimension", "Fixed query"]
    assert [line[0] for line in accuracy[2:]] == [*names, "Oracles among themselves"]
    assert [line[0] for line in differences[2:]] == [name for name in names if name != "+ task + dimension"]
    cells = [(task, dimension) for task in Task for dimension in DIMENSIONS[task]] + [(MEAN, MEAN)]
    rows = {(row.variant, row.task, row.dimension): row for row in report.judge}
    for variant, line in zip(["untuned", "pair", "task", "task_dimension", "fixed_query"], accuracy[2:], strict=False):
        for cell, text in zip(cells, line[1:], strict=True):
            row = rows[variant, *cell]
            star = "*" if row.task == Task.REMOVE else ""  # each of its triplets has two voters
            ends = f"{100 * row.low:.0f}–{100 * row.high:.0f}"
            assert text == f"{100 * row.accuracy:.1f}{star}{ends}n {row.n}"
    against = {(row.variant, row.task, row.dimension): row for row in report.table.comparisons}
    for variant, line in zip(["untuned", "pair", "task", "fixed_query"], differences[2:], strict=True):
        for cell, text in zip([*cells[:-1], (ALL, ALL)], line[1:], strict=True):
            assert text.startswith(points(against[variant, *cell].difference))
            assert text.endswith(chance(against[variant, *cell].p_holm))


def test_the_ceiling_stands_where_two_voted_on_the_same(parsed: WellFormed, report: Report) -> None:
    (line,) = [line for table in parsed.tables for line in table if line[0] == "Oracles among themselves"]
    (row,) = [row for row in report.table.ceiling if row.n]
    assert row.accuracy is not None
    assert [text for text in line[1:] if text != "–"] == [line[9]]
    assert line[9].startswith(f"{100 * row.accuracy:.1f}") and line[9].endswith(f"n {row.n}")
    alone = [dataclasses.replace(row, n=0, accuracy=None, low=None, high=None) for row in report.table.ceiling]
    text = render(Report(table=dataclasses.replace(report.table, ceiling=alone)))
    assert "No ceiling: oracles voted" in text and "among themselves" not in text


def test_a_table_alone_has_a_page_of_its_own(report: Report, tmp_path: Path) -> None:
    rows = ["mine", "yours", *(f"seed-{seed}" for seed in range(3))]
    answers = [answer("t", 1, -1, variant=variant, voter=voter) for variant in rows for voter in ("ann", "bob")]
    page = write_table(Report(table=judge_table(answers)), tmp_path)
    text = page.read_text()
    assert "How often is the judge right?" in text and "better editor" not in text
    assert len(set(re.findall(r"dot (row-\d)", text))) == 5  # no two rows of one colour
    assert json.loads((tmp_path / "table.json").read_text()).keys() == {
        "judge",
        "comparisons",
        "reliability",
        "ceiling",
    }


def test_points_of_a_reliability_diagram_stand_where_their_numbers_are() -> None:
    panel = reliability_panel([Point(x=0.25, y=0.75, low=0.5, high=1)], series="untuned", title="t")
    diagonal = re.search(r'class="reference" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', panel)
    dot = re.search(r'class="dot untuned" cx="([\d.]+)" cy="([\d.]+)"', panel)
    bar = re.search(r'class="bar untuned" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)" y2="([\d.]+)"', panel)
    assert diagonal is not None and dot is not None and bar is not None
    left, bottom, right, top = map(float, diagonal.groups())
    assert float(dot[1]) == pytest.approx(left + 0.25 * (right - left))
    assert float(dot[2]) == pytest.approx(bottom + 0.75 * (top - bottom))
    assert [float(end) for end in bar.groups()] == pytest.approx([(bottom + top) / 2, top])


def test_an_empty_report_still_says_what_ran(tmp_path: Path) -> None:
    text = write_report(Report(versions={"python": "3.11"}), tmp_path).read_text()
    assert "What was run" in text and "The judge" not in text


def test_the_terminal_shows_both_tables_and_the_path(report: Report, page: Path) -> None:
    console = Console(record=True, width=160, quiet=False, file=(page.parent / "terminal.txt").open("w"))
    print_summary(report, page, console)
    text = console.export_text()
    assert "Judge accuracy" in text and "Good-Same-Bad" in text and str(page) in text


def test_marks_stand_where_their_numbers_are() -> None:
    axis = Axis(low=0, high=1, ticks=(0, 0.5, 1), text=percent, reference=0.5)
    assert axis.x(0.5) == pytest.approx((axis.x(0) + axis.x(1)) / 2)
    row = Row(group="Fill", label="Structure", marks=(Mark(series="untuned", value=0.5, low=0.25, high=0.75),))
    chart = interval_chart([row], axis, title="t")
    dot = re.search(r'class="dot untuned" cx="([\d.]+)"', chart)
    bar = re.search(r'class="bar untuned" x1="([\d.]+)" x2="([\d.]+)"', chart)
    assert dot is not None and bar is not None
    assert float(dot[1]) == pytest.approx(axis.x(0.5), abs=0.1)
    assert [float(end) for end in bar.groups()] == pytest.approx([axis.x(0.25), axis.x(0.75)], abs=0.1)


def test_small_chances_are_not_printed_as_none() -> None:
    assert [chance(p) for p in (1, 0.0499, 0.001, 0.0009)] == ["p = 1.000", "p = .050", "p = .001", "p < .001"]


def test_signs_are_typographic_and_zero_has_none() -> None:
    assert [signed(value, 2) for value in (0.123, -0.123, -0.001)] == ["+0.12", "−0.12", "0.00"]
