"""Rows of tables: what each format yields, a row that cannot be read, files that are no table."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from onereward.store.tables import TABLES, held_file, read_table, wrong_rows


def test_rows_come_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"x": 1}\n\n[2]\n', encoding="utf-8")
    assert [*read_table(tmp_path / "a.jsonl")] == [{"x": 1}, None, [2]]
    (tmp_path / "a.CSV").write_text('x,y\n1,"a\nb"\n,\n1,2,3\n')
    extra = {"(more cells than the first line has)": ["3"]}
    assert [*read_table(tmp_path / "a.CSV")] == [
        {"x": "1", "y": "a\nb"},
        {"x": None, "y": None},
        {"x": "1", "y": "2"} | extra,
    ]
    rows = [{"x": place, "y": bytes([place])} for place in range(40)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [*read_table(tmp_path / "a.parquet")] == rows


def test_a_line_that_is_no_json_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n{"x"\n{"x": 3}\n')
    first, wrong, last = read_table(tmp_path / "a.jsonl")
    assert (first, last) == ({"x": 1}, {"x": 3})
    assert isinstance(wrong, ValueError) and str(wrong).startswith("no JSON: ")


@pytest.mark.parametrize("suffix", TABLES)
def test_another_kind_of_file_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"\xff\x00\xfe" * 9)
    with pytest.raises(ValueError, match=f"{suffix} is no {TABLES[suffix][0]}: "):
        [*read_table(tmp_path / f"a{suffix}")]


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no table: expected a name ending in \.jsonl, \.csv, \.parquet"):
        [*read_table(tmp_path / "a.xlsx")]


def test_a_file_in_a_cell(tmp_path: Path) -> None:
    assert held_file(b"x") == held_file({"bytes": b"x", "path": "a.png"}) == b"x"
    for cell in (None, "a.png", {"bytes": None, "path": "a.png"}, {}, 3, [b"x"]):
        assert held_file(cell) is None


def test_wrong_rows_are_counted_and_the_first_shown() -> None:
    table = Path("a.csv")
    assert wrong_rows(["row 2: x"], table) == "a.csv has 1 wrong row: row 2: x"
    rows = [f"row {place}" for place in range(9)]
    assert wrong_rows(rows, table) == "a.csv has 9 wrong rows: row 0; row 1; row 2; row 3; row 4; and 4 more"
    assert json.dumps(wrong_rows(rows[:5], table)).endswith('row 4"')
