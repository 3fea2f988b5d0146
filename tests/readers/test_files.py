from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onereward.readers.cells import Rejected, Row
from onereward.readers.files import SUFFIXES, Cursor, input_files, open_input
from tests.readers.making import write_rows

ROWS = [{"name": f"row {number}", "text": f"two\nlines, and a comma; {number}"} for number in range(40)]


@pytest.fixture(scope="module", params=sorted(SUFFIXES))
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    suffix: str = request.param
    return write_rows(tmp_path_factory.mktemp("tables") / f"rows{suffix}", ROWS, row_group_size=7)


def test_columns_and_rows(table: Path) -> None:
    file = open_input(table)
    assert file.columns == ("name", "text") and file.count() == 40
    assert list(file.rows()) == ROWS
    assert list(file.rows(23)) == ROWS[23:]
    assert list(file.rows(40)) == []


@given(st.lists(st.integers(0, 39), max_size=12))
def test_a_cursor_finds_any_row_in_any_order(table: Path, numbers: list[int]) -> None:
    cursor = Cursor(open_input(table), ("name",))
    for number in numbers:
        row = cursor.row(number)
        assert not isinstance(row, Rejected) and row["name"] == f"row {number}"


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", ROWS)
    assert next(open_input(path).rows(3, ["text"])) == {"text": ROWS[3]["text"]}


def test_a_cursor_goes_on_without_reading_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_input(write_rows(tmp_path / "t.csv", ROWS))
    begun: list[int] = []
    rows = file.rows

    def counted(start: int, columns: Sequence[str]) -> Iterator[Row | Rejected]:
        begun.append(start)
        return rows(start, columns)

    monkeypatch.setattr(file, "rows", counted)
    cursor = Cursor(file, ())
    for number in (0, 1, 2, 5, 6, 3, 4):
        cursor.row(number)
    assert begun == [0, 3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"no table", "t.parquet is no Parquet file"),
        ("t.json", b'{"a": [1, 2}', "t.json is no JSON"),
        ("t.json", b"3", "t.json holds int, expected a list of objects, or an object"),
        ("t.csv", b"a,b\n\xff\xfe,2\n", "t.csv is no CSV in UTF-8"),
        ("t.jsonl", b"\xff\xfe", "t.jsonl is no text in UTF-8"),
        ("t.xlsx", b"", "t.xlsx is no table: expected a name ending in .parquet, .jsonl, .json, .csv"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(open_input(tmp_path / name).rows())


def test_an_object_of_lists_or_of_objects_is_rows_of_names(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"a": [1, 2], "b": {"c": [3]}}')
    assert list(open_input(tmp_path / "t.json").rows()) == [
        {"name": "a", "values": [1, 2]},
        {"name": "b", "entries": {"c": [3]}},
    ]


def test_folders_and_files(tmp_path: Path) -> None:
    one: list[dict[str, Any]] = [{"a": 1}]
    for name in ("b.csv", "a.csv", "c.parquet"):
        write_rows(tmp_path / name, one)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds tables of several kinds \(.csv, .parquet\): name the files to read"):
        input_files([tmp_path])
    (tmp_path / "c.parquet").unlink()
    assert list(input_files([tmp_path])) == ["a.csv", "b.csv"]
    with pytest.raises(ValueError, match=r"got two files named a\.csv"):
        input_files([tmp_path, tmp_path / "a.csv"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no table"):
        input_files([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError):
        open_input(tmp_path / "gone.csv")
