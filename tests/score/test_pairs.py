"""What a table of pairs may say, in each of its formats, and that a wrong row is met before any work."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onereward.score.pairs import Defaults, Row, Rows, Table, survey
from onereward.terms import DIMENSIONS, Dimension, Task
from tests.pictures import noise
from tests.serve.edits import file_of

STRUCTURE, AESTHETICS = Dimension.STRUCTURE, Dimension.AESTHETICS
PAIR = {"first": "a.png", "second": "b.png", "task": "fill"}


def jsonl(file: Path, rows: list[Any]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def rows_of(table: Table) -> list[Row]:
    return Rows(table).take(range(table.pairs))


def test_a_row_says_the_pair_or_leaves_it_to_the_defaults(tmp_path: Path) -> None:
    rows = [
        {**PAIR, "prompt": "a star", "dimension": "structure", "id": "x"},
        {"first": "a.png", "second": "sub/b.png", "dimension": ["aesthetics", "structure", "aesthetics"], "id": 7},
        {"first": "a.png", "second": "b.png", "task": "remove", "dimension": "", "prompt": None},
    ]
    table = survey(jsonl(tmp_path / "pairs.jsonl", rows), Defaults(task=Task.EXTEND, prompt="sky"))
    common = {"first": tmp_path / "a.png", "second": tmp_path / "b.png"}
    assert rows_of(table) == [
        Row(number=1, id="x", task=Task.FILL, dimensions=(STRUCTURE,), prompt="a star", **common),
        Row(
            number=2,
            id="7",
            task=Task.EXTEND,
            dimensions=(AESTHETICS, STRUCTURE),
            prompt="sky",
            **{**common, "second": tmp_path / "sub" / "b.png"},
        ),
        Row(number=3, id="row-3", task=Task.REMOVE, dimensions=(Dimension.REMOVAL_QUALITY,), prompt="sky", **common),
    ]
    asked = survey(jsonl(tmp_path / "pairs.jsonl", [PAIR]), Defaults(dimensions=(STRUCTURE,)))
    assert rows_of(asked)[0].dimensions == (STRUCTURE,)


@pytest.mark.parametrize("task", Task)
def test_no_dimension_stands_for_all_that_apply(tmp_path: Path, task: Task) -> None:
    rows = [{**PAIR, "task": task}, {**PAIR, "task": task, "prompt": "a star"}]
    without, with_prompt = rows_of(survey(jsonl(tmp_path / "pairs.jsonl", rows)))
    assert with_prompt.dimensions == DIMENSIONS[task]
    assert set(DIMENSIONS[task]) - set(without.dimensions) == {Dimension.TEXT_ALIGNMENT} & set(DIMENSIONS[task])


def test_all_formats_say_the_same(tmp_path: Path) -> None:
    for name, size in (("a.png", 20), ("b.png", 21)):
        (tmp_path / name).write_bytes(file_of(noise(size, 20)))
    rows = [{**PAIR, "id": f"p{place}", "dimension": "structure,aesthetics", "prompt": "é"} for place in range(40)]
    tables = [jsonl(tmp_path / "pairs.jsonl", rows), tmp_path / "pairs.csv", tmp_path / "pairs.parquet"]
    with tables[1].open("w", encoding="utf-8-sig", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tables[2])
    held: list[dict[str, Any]] = [
        {
            **row,
            "first": {"bytes": (tmp_path / "a.png").read_bytes(), "path": None},
            "second": (tmp_path / "b.png").read_bytes(),
            "dimension": ["structure", "aesthetics"],
        }
        for row in rows
    ]
    tables.append(tmp_path / "held.PARQUET")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(held), tables[-1])
    surveys = [survey(table) for table in tables]
    assert {(one.pairs, one.sha256) for one in surveys} == {(40, surveys[0].sha256)}
    assert rows_of(surveys[0]) == rows_of(surveys[1]) == rows_of(surveys[2])
    assert rows_of(surveys[3])[39].first == (tmp_path / "a.png").read_bytes()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 5))
def test_rows_are_taken_range_after_range(sizes: list[int], gap: int) -> None:
    rows = [{**PAIR, "id": str(place)} for place in range(gap + sum(sizes))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onereward.score.pairs.read_table", lambda _path: iter([None, *rows]))
        taking = Rows(Table(path=Path("pairs.jsonl"), defaults=Defaults(), pairs=len(rows), sha256=""))
        start, taken = gap, []
        for size in sizes:
            taken += taking.take(range(start, start + size))
            start += size
    assert [row.id for row in taken] == [str(place) for place in range(gap, start)]
    assert [row.number for row in taken] == [place + 2 for place in range(gap, start)]


def test_the_digest_is_of_what_is_said_and_shown(tmp_path: Path) -> None:
    for name, size in (("a.png", 20), ("b.png", 21)):
        (tmp_path / name).write_bytes(file_of(noise(size, 20)))
    table = tmp_path / "pairs.jsonl"
    digests = [
        survey(jsonl(table, rows), defaults).sha256
        for rows, defaults in (
            ([PAIR], Defaults()),
            ([{**PAIR, "label": 3}], Defaults()),
            ([{**PAIR, "first": "./a.png"}], Defaults()),
            ([{**PAIR, "first": "b.png"}], Defaults()),
            ([{**PAIR, "prompt": "a star"}], Defaults()),
            ([PAIR], Defaults(prompt="a star")),
            ([{**PAIR, "id": "other"}], Defaults()),
            ([{**PAIR, "second": "none.png"}], Defaults()),
            ([PAIR, {**PAIR, "id": "again"}], Defaults()),
        )
    ]
    assert digests[0] == digests[1] == digests[2] and digests[4] == digests[5]
    assert len(set(digests)) == 6
    (tmp_path / "a.png").write_bytes(file_of(noise(22, 20)))
    assert survey(jsonl(table, [PAIR])).sha256 not in digests


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"first": "a.png"}, "second and task missing: a row has first, second and task"),
        ({**PAIR, "task": None}, "task missing"),
        ({**PAIR, "task": "paint"}, "unknown task 'paint'; the tasks are fill"),
        ({**PAIR, "task": 3}, "got task 3, expected text"),
        ({**PAIR, "dimension": "beauty"}, "unknown dimension 'beauty'; the dimensions are"),
        ({**PAIR, "dimension": "removal_quality"}, "task 'fill' is not judged by 'removal_quality'"),
        ({**PAIR, "dimension": "text_alignment"}, "text_alignment asks whether an image shows what the prompt says"),
        ({**PAIR, "dimension": 3}, "got dimension 3, expected names"),
        ({**PAIR, "first": 3}, "got first 3, expected text"),
        ({**PAIR, "first": {"bytes": None, "path": None}}, "got first None, expected text"),
        ({**PAIR, "prompt": ["x"]}, "got prompt ['x'], expected text"),
        ({**PAIR, "id": "row-1"}, "row 1 has its id 'row-1' already"),
        ([], "got [], expected an object with first, second and task"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        survey(jsonl(tmp_path / "pairs.jsonl", [PAIR, row, PAIR]))
    assert str(error.value).startswith(f"{tmp_path}/pairs.jsonl has 1 wrong row: row 2: {message}")


def test_wrong_rows_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("{\n" * 7)
    with pytest.raises(ValueError, match=r"has 7 wrong rows: row 1: no JSON: .*; and 2 more$"):
        survey(tmp_path / "pairs.jsonl")


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        survey(tmp_path / "pairs.jsonl")
    for name, content, message in (
        ("pairs.txt", b"x", "is no table: expected a name ending in .jsonl, .csv, .parquet"),
        ("pairs.parquet", b"x" * 99, "is no Parquet file"),
        ("pairs.csv", b"\xff\xfe", "is no CSV in UTF-8"),
        ("pairs.jsonl", b"\n\n", "holds no pairs"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            survey(tmp_path / name)


def test_columns_that_are_not_read_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = survey(jsonl(tmp_path / "pairs.jsonl", [{**PAIR, "dimensions": "structure"}, {**PAIR, "label": 1}]))
        rows_of(table)
    [record] = caplog.records
    assert record.getMessage().endswith("pairs.jsonl: columns that are not read: dimensions, label")
