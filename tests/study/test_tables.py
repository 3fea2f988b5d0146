import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from onereward.metrics.intervals import Interval
from onereward.study.analysis import Analysis, AnalysisPlan, Counts, StrengthRow, analyse
from onereward.study.criteria import Criterion, Group
from onereward.study.exclusion import ExclusionRules
from onereward.study.tables import _agreed, _strength_chart, figure, markdown, page, table_csv, table_rows, write_study
from tests.study.simulated import SYSTEMS, collected

VOID = {"meta", "br"}
ORDER = ("Photoshop", *(name for name in SYSTEMS if name != "Photoshop"))  # neither by name nor by figure


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(collected(items=6, answers=4), AnalysisPlan(main="Ours", rules=ExclusionRules(), resamples=200))


class Page(HTMLParser):
    """Fails on a tag closed out of order; collects what the page refers to and how many bars and dots it draws."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.drawn: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.drawn.append(f"{tag} {dict(attrs).get('class') or ''}".strip())

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.drawn.append(f"{tag} {dict(attrs).get('class') or ''}".strip())

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_table_3_has_the_papers_form(analysis: Analysis) -> None:
    lines = [
        [cell.strip() for cell in line.strip("|\n").split(" | ")]
        for line in markdown(analysis.results, ORDER).splitlines()
    ]
    assert lines[0][:4] == ["Task", "System", "Usability (%)", "Text alignment"]
    assert lines[0][-2:] == ["Text rendering (%)", "Removal quality (%)"]
    body = lines[2:]
    assert [line[0] for line in body] == ["Image Fill"] * 4 + ["Image Extend w/o Prompt"] * 4 + ["Object Removal"] * 4
    assert {len(line) for line in lines} == {10}
    assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", body[0][2])
    assert body[0][-1] == "–" and body[-1][3] == "–"
    assert [line[1] for line in body] == [*ORDER] * 3


def test_csv_is_every_cell_unrounded(analysis: Analysis) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(analysis.results, ORDER))))
    assert len(rows) == len(analysis.results.scores)
    values = {(row["group"], row["criterion"], row["system"]): float(row["value"]) for row in rows}
    assert values == {(r.group, r.criterion, r.system): r.score.value for r in analysis.results.scores}


def test_the_page_stands_alone_and_draws_every_figure(analysis: Analysis) -> None:
    text = page(analysis, ORDER)
    parsed = Page(text)
    assert parsed.references == []
    assert "url(" not in text and "<script" not in text
    dots = sum(item.startswith("circle dot") for item in parsed.drawn)
    assert dots == len(analysis.results.scores) + len(analysis.results.strengths)
    bars = sum(item in ("rect good", "rect same", "rect bad") for item in parsed.drawn)
    assert bars == 3 * len(analysis.results.preferences)
    for row in analysis.results.scores:
        number = f"{100 * row.score.value:.2f}" if row.criterion in PERCENT else f"{row.score.value:.2f}"
        assert number in text
    assert analysis.plan_sha256 in text


PERCENT = (Criterion.USABILITY, Criterion.TEXT_RENDERING, Criterion.REMOVAL_QUALITY)


def test_bold_is_every_highest_of_its_column_and_none_where_all_are_alike(analysis: Analysis) -> None:
    """As printed: one system at 40 and three at 80; all at 70."""

    values = {Criterion.USABILITY: [0.4, 0.8, 0.8, 0.8 - 1e-9], Criterion.REMOVAL_QUALITY: [0.7] * 4}
    some = []
    for criterion, column in values.items():
        rows_of = [row for row in analysis.results.scores if (row.group, row.criterion) == (Group.REMOVE, criterion)]
        some += [
            dataclasses.replace(row, score=Interval(value=value, low=0, high=1))
            for row, value in zip(rows_of, column, strict=True)
        ]
    text = page(dataclasses.replace(analysis, results=dataclasses.replace(analysis.results, scores=tuple(some))), ORDER)
    assert re.findall(r"<b>([\d.]+)</b>", text) == ["80.00"] * 3
    assert "highest of each column within a task" in text
    tops = []
    for group in Group:
        rows = [row for row in table_rows(analysis.results, ORDER) if row.group is group]
        for cells in zip(*(row.cells for row in rows), strict=True):
            shown = [figure(cell) for cell in cells if cell]
            if len(set(shown)) > 1:
                tops += [each for each in shown if each == max(shown, key=float)]
    assert sorted(re.findall(r"<b>([\d.]+)</b>", page(analysis, ORDER))) == sorted(tops)


def test_systems_and_tasks_are_named_alike_and_in_one_order(analysis: Analysis) -> None:
    text = page(analysis, ORDER)
    assert re.findall(r"<tr><td>([^<]*)</td><td>", text)[: 4 * 3] == [*ORDER] * 3  # Table 3
    assert re.findall(r'<li class="row-\d">([^<]*)</li>', text) == [*ORDER]
    for group in (Group.FILL, Group.EXTEND_FREE, Group.REMOVE):
        assert f">{group}</text>" in text  # Fig. 7
    assert "Items of the Text task are counted under Image Fill." in text


def test_names_are_text_never_markup() -> None:
    study = collected(items=6, answers=2)
    swap = {"Photoshop": "<script>|alert"}
    ratings = tuple(dataclasses.replace(r, system=swap.get(r.system, r.system)) for r in study.ratings)
    hostile = dataclasses.replace(study, ratings=ratings)
    found = analyse(hostile, AnalysisPlan(main="Ours", rules=ExclusionRules(), resamples=50))
    order = [swap.get(name, name) for name in ORDER]
    assert "<script>" not in page(found, order)
    assert "&lt;script&gt;|alert" in page(found, order)
    assert r"<script>\|alert" in markdown(found.results, order)


def test_files_are_written(analysis: Analysis, tmp_path: Path) -> None:
    assert write_study(analysis, tmp_path, ORDER) == tmp_path / "study.html"
    assert {file.name for file in tmp_path.iterdir()} == {"study.html", "study.json", "table3.md", "table3.csv"}
    said = json.loads((tmp_path / "study.json").read_text())
    assert said["results"]["scores"][0]["score"]["value"] == analysis.results.scores[0].score.value


def test_a_study_of_comparisons_alone_has_fig_7_alone() -> None:
    study = dataclasses.replace(collected(items=6, answers=2), ratings=())
    assigned = dict.fromkeys(study.assigned, 1)
    plan = AnalysisPlan(main="Ours", rules=ExclusionRules(), resamples=50)
    text = page(analyse(dataclasses.replace(study, assigned=assigned), plan), ORDER)
    Page(text)
    assert "Fig. 7" in text and "Fig. 6" not in text and "Table 3" not in text


def of_people(*people: str, rules: ExclusionRules = ExclusionRules()) -> Analysis:
    """The analysis of what these alone answered."""
    some = collected(items=6, answers=2).of(frozenset(people))
    return analyse(some, AnalysisPlan(main="Ours", rules=rules, resamples=50))


def test_one_person_gives_figures_without_intervals() -> None:
    found = of_people("p0")
    text = page(found, ORDER)
    Page(text)
    assert "of 4 systems by 1 participant." in text
    assert "One participant tells nothing of what others would say" in text
    assert "<small>" not in text and not re.search(r"[(]\S+ to \S+[)]", text)
    assert "No output has answers of two participants" in text
    assert "(" not in "".join(markdown(found.results, ORDER).splitlines()[2:])
    rows = list(csv.DictReader(io.StringIO(table_csv(found.results, ORDER))))
    assert rows and all(row["value"] and not row["low"] and not row["high"] for row in rows)
    bars = re.findall(r'class="bar [^"]*" x1="([\d.]+)" x2="([\d.]+)"', text)
    assert bars and all(start == end for start, end in bars)


def test_systems_are_counted_where_nothing_but_pairs_was_asked() -> None:
    study = collected(items=6, answers=2)
    alone = dataclasses.replace(study.of(frozenset({"p0"})), ratings=())
    rules = ExclusionRules(answered_share=0)
    text = page(analyse(alone, AnalysisPlan(main="Ours", rules=rules, resamples=50)), ORDER)
    assert "of 3 systems by 1 participant." in text and "to 1)" not in text


def test_where_everybody_is_left_out_the_page_says_who_and_why(tmp_path: Path) -> None:
    found = of_people("p0", "p1", rules=ExclusionRules(minimum_seconds=99))
    text = (write_study(found, tmp_path / "new", ORDER)).read_text()
    Page(text)
    assert "of 4 systems by 0 participants." in text
    assert "Everybody was left out, so that there are no figures" in text
    assert "2 participants, by rules that were frozen" in text and "pages in less than 99 s" in text
    assert "Fig. 6" not in text and "Table 3 with everybody" in text


def test_a_folder_of_other_things_is_left_alone(analysis: Analysis, tmp_path: Path) -> None:
    write_study(analysis, tmp_path, ORDER)
    write_study(analysis, tmp_path, ORDER)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other things \(thesis\.tex\): name a new folder"):
        write_study(analysis, tmp_path, ORDER)


def test_agreement_says_what_it_measures(analysis: Analysis) -> None:
    text = page(analysis, ORDER)
    for head in ("Krippendorff's alpha", "Share of pairs with the same answer", "Outputs with two or more answers"):
        assert f"<th>{head}</th>" in text


def test_an_agreement_without_a_width_has_no_interval() -> None:
    assert _agreed(Interval(value=1, low=1, high=1), 3) == "1.00"
    assert _agreed(Interval(value=0.5, low=-0.2, high=1), 3) == "0.50 (−0.20 to 1.00)"
    assert _agreed(None, 3) == "–"


@pytest.mark.parametrize("reach", [0.1, 3.0, 27.0, 1e6])
def test_strengths_of_any_size_have_an_axis(reach: float) -> None:
    """Two people who always agree about five systems leave intervals beyond 20."""
    estimate = Interval(value=reach / 2, low=-reach / 3, high=reach)
    counts = Counts(answers=4, participants=2, items=2)
    rows = [StrengthRow(group=Group.FILL, system=name, strength=estimate, counts=counts) for name in "abc"]
    drawn = _strength_chart(rows, dict.fromkeys("abc", "main"))
    assert drawn is not None and "nan" not in drawn and "inf" not in drawn
