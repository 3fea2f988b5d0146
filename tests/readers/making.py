"""Small images and tables for the tests of the readers."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

from onereward.readers.check import Checked, check_inputs
from onereward.readers.files import input_files
from onereward.readers.inputs import ImportConfig, open_inputs
from onereward.readers.stage import write_preferences
from onereward.store.shards import read_records
from onereward.terms import Preference


def png(*colour: int, size: tuple[int, int] = (4, 4)) -> bytes:
    """A PNG of one colour, of up to three levels."""
    buffer = io.BytesIO()
    red, green, blue = (*colour, 0, 0, 0)[:3]
    Image.new("RGB", size, (red, green, blue)).save(buffer, "PNG")
    return buffer.getvalue()


def held(data: bytes | None, path: str | None = None) -> dict[str, Any]:
    """An image cell as `datasets` writes it."""
    return {"bytes": data, "path": path}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], row_group_size: int | None = None) -> Path:
    """The rows as Parquet, JSONL, JSON or CSV, by the path's suffix."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
    return path


def write_images(folder: Path, images: Mapping[str, bytes]) -> None:
    """Each file under its path from `folder`."""
    for name, data in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def imported(
    path: Path, output: Path, config: ImportConfig, *, images: Path | None = None, max_rejected: float = 0.0
) -> tuple[list[Preference], Checked]:
    """The preferences in a file or folder, and its check."""
    inputs = open_inputs(input_files([path]), config, images=images)
    checked = check_inputs(inputs, output, max_rejected=max_rejected)
    write_preferences(inputs, checked, output)
    return list(read_records(output, Preference)), checked
