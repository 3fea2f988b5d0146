import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from onereward.report import Report, print_summary, write_report
from onereward.report.charts import Axis, Mark, Row, interval_chart
from onereward.report.words import percent, signed
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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag in ("img", "svg"):
            self.pictures.append(values)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


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
    expected = {"editor", "task", "dimension", "good", "same", "bad", "net", "low", "high", "n", "seed"}
    assert content["gsb"][0].keys() == expected
    assert {(row["editor"], row["task"]) for row in content["gsb"] if row["dimension"] == "all"} == {
        (editor, task) for editor in ("algorithm-1", "algorithm-2") for task in ("fill", "extend", "remove", "text")
    }
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in content["judge"])


def test_every_accuracy_stands_on_the_page_with_its_n(parsed: WellFormed, report: Report) -> None:
    for row in report.judge:
        assert percent(row.accuracy, 1) in parsed.text
        assert str(row.n) in parsed.text


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


def test_signs_are_typographic_and_zero_has_none() -> None:
    assert [signed(value, 2) for value in (0.123, -0.123, -0.001)] == ["+0.12", "−0.12", "0.00"]
