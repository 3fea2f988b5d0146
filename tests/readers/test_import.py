"""What becomes of corrupt rows; resuming; memory."""

import json
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from glob import glob
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy
import pyarrow.parquet
import pytest
from PIL import Image

from onereward.readers import check, stage
from onereward.readers.cells import Reason
from onereward.readers.check import check_inputs
from onereward.readers.files import input_files
from onereward.readers.inputs import ImportConfig, Inputs, open_inputs
from onereward.readers.stage import shards_of, write_preferences
from onereward.store.images import encode_png
from onereward.store.shards import Manifest, read_manifest, read_records
from onereward.terms import Preference
from tests.readers.making import held, imported, png, write_images, write_rows

TABLE = ImportConfig(format="table")


def rows_of_pairs(count: int) -> list[dict[str, Any]]:
    return [
        {"winner": held(png(n, 1)), "loser": held(png(n, 2)), "prompt": "a fox", "source": f"s{n // 2}"}
        for n in range(count)
    ]


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_pixels() -> bytes:
    """A GIF of 0x0 pixels, whose header Pillow reads."""
    return b"GIF89a" + bytes(4) + b"\x00\x00\x00" + b"," + bytes(8) + b"\x00" + b"\x02\x00;"


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"winner": held(png(1)[:45])}, "image does not decode", "image 1 ("),
    ({"loser": held(b"<html>404</html>")}, "image does not decode", "image 2 (16 bytes): cannot identify image file"),
    ({"loser": held(b"")}, "empty image", "0 bytes"),
    ({"loser": held(b"", "gone.png")}, "empty image", "gone.png has 0 bytes"),
    ({"winner": held(None, "gone.png")}, "missing image file", "gone.png"),
    ({"winner": held(None, "hollow.png")}, "empty image", "hollow.png has 0 bytes"),
    ({"winner": held(None, "")}, "missing value", "an image"),
    ({"winner": None}, "missing value", "an image"),
    ({"source": None, "tie": "perhaps"}, "unknown label", "tie is 'perhaps', expected false, 0"),
    ({"weight": "heavy"}, "unknown label", "weight is 'heavy', expected a number"),
]


def test_each_fault_is_counted_and_listed_and_nothing_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "hollow.png").write_bytes(b"")
    good = rows_of_pairs(3)
    empty: dict[str, Any] = {"tie": None, "weight": None}
    bad = [{**good[0], **empty, **changes} for changes, *_ in FAULTS]
    rows = [{**good[0], **empty}, *bad, {**good[1], **empty}, {**good[2], **empty}]
    preferences, checked = imported(write_rows(tmp_path / "t.parquet", rows), tmp_path / "out", TABLE, max_rejected=0.8)
    assert [(row.winner, row.loser) for row in preferences] == [(png(n, 1), png(n, 2)) for n in range(3)]
    listed = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [line["row"] for line in listed] == list(range(2, 2 + len(FAULTS)))
    for line, (_, reason, detail) in zip(listed, FAULTS, strict=True):
        assert line["file"] == "t.parquet" and line["reason"] == reason and line["detail"].startswith(detail), line
    assert sum(checked.rejected.values()) == checked.corrupt == len(FAULTS)
    assert checked.rejected[Reason.BROKEN_IMAGE] == 2 and checked.rejected[Reason.EMPTY_IMAGE] == 3


def test_an_image_without_pixels_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Pillow itself refuses nearly all of these files; what it lets through must not.
    monkeypatch.setattr("onereward.readers.cells.decode_image", lambda data: Image.new("RGB", (0, 7)))
    path = write_rows(tmp_path / "t.parquet", rows_of_pairs(1))
    with pytest.raises(ValueError, match="1 of 1 rows"):
        imported(path, tmp_path / "out", TABLE)
    assert "image 1 has 0x7 pixels" in (tmp_path / "out/rejected.jsonl").read_text()


def test_lines_that_are_no_rows_are_rejected(tmp_path: Path) -> None:
    write_images(tmp_path, {"a.png": png(1), "b.png": png(2)})
    row = '{"winner": "a.png", "loser": "b.png"}'
    jsonl, table = tmp_path / "t.jsonl", tmp_path / "t.csv"
    jsonl.write_text(f'{row}\n{row[:-1]}\n\n[1, 2]\n{{"winner": "a.png"}}\n{row}\n')
    table.write_text("winner,loser\na.png,b.png\na.png,b.png,c.png\na.png\n")
    preferences, checked = imported(jsonl, tmp_path / "one", TABLE, max_rejected=1)
    assert len(preferences) == 2 and checked.rejected == {"unreadable row": 2, "missing value": 1}
    preferences, checked = imported(table, tmp_path / "two", TABLE, max_rejected=1)
    assert len(preferences) == 1 and checked.rejected == {"unreadable row": 1, "missing value": 1}
    assert "more cells than the 2 of the first line" in (tmp_path / "two/rejected.jsonl").read_text()


def test_a_corrupt_image_leaves_its_group_only(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{n}.png": png(n) for n in range(4)} | {"2.png": b"no image"})
    rows = [{"image": f"{n}.png", "group": "g", "score": n} for n in range(4)]
    path = write_rows(tmp_path / "t.csv", rows)
    preferences, _ = imported(path, tmp_path / "out", TABLE, max_rejected=0.25)
    assert [(row.winner, row.loser) for row in preferences] == [
        (png(1), png(0)), (png(3), png(0)), (png(3), png(1))
    ]  # fmt: skip


def test_too_many_corrupt_rows_end_the_import_after_listing(tmp_path: Path) -> None:
    rows = rows_of_pairs(10)
    rows[4]["winner"] = held(b"x")
    path, output = write_rows(tmp_path / "t.parquet", rows), tmp_path / "out"
    with pytest.raises(
        ValueError, match=r"1 of 10 rows \(10.0%\) are corrupt, more than --max-rejected 0.05: 1 image "
    ):
        imported(path, output, TABLE, max_rejected=0.05)
    assert sorted(files_in(output)) == ["rejected.jsonl"] and '"row": 5' in (output / "rejected.jsonl").read_text()
    preferences, _ = imported(path, output, TABLE, max_rejected=0.1)
    assert len(preferences) == 9


def test_images_in_the_wrong_folder_can_be_named_again(tmp_path: Path) -> None:
    write_images(tmp_path / "images", {"a.png": png(1), "b.png": png(2)})
    path = write_rows(tmp_path / "t.csv", [{"winner": "a.png", "loser": "b.png"}])
    with pytest.raises(ValueError, match=r"1 missing image file.*name the images' folder with --images"):
        imported(path, tmp_path / "out", TABLE)
    assert len(imported(path, tmp_path / "out", TABLE, images=tmp_path / "images")[0]) == 1


@pytest.mark.parametrize("rows", [[], [{"winner": "a.png", "loser": "b.png", "tie": "yes"}]])
def test_no_preference_at_all_is_an_error(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    write_images(tmp_path, {"a.png": png(1), "b.png": png(2)})
    path = write_rows(tmp_path / "t.csv", rows)
    if not rows:
        path.write_text("winner,loser\n")
    with pytest.raises(ValueError, match=f"no preference in {len(rows)} rows: none is corrupt, {len(rows)} ties left"):
        imported(path, tmp_path / "out", TABLE)


def opened(path: Path, config: ImportConfig = TABLE, images: Path | None = None) -> Inputs:
    return open_inputs(input_files([path]), config, images=images)


def run(inputs: Inputs, output: Path) -> Manifest:
    return write_preferences(inputs, check_inputs(inputs, output), output)


def test_again_does_nothing_and_elsewhere_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ImportConfig(format="table", shard_size=4)
    rows = rows_of_pairs(30)
    rows[20]["winner"] = held(b"no image")
    path = write_rows(tmp_path / "t.parquet", rows, row_group_size=3)
    run(opened(path, config), tmp_path / "out")
    before = files_in(tmp_path / "out")
    assert sum(name.startswith("shard") for name in before) == 8 and b"0x" not in before["rejected.jsonl"]
    (tmp_path / "moved").mkdir()
    moved = path.rename(tmp_path / "moved/t.parquet")
    run(opened(moved, config), tmp_path / "other")
    assert files_in(tmp_path / "other") == before
    monkeypatch.setattr(Inputs, "read", lambda *_: pytest.fail("a finished import reads no row"))
    run(opened(moved, config), tmp_path / "out")
    assert files_in(tmp_path / "out") == before


def test_a_stopped_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_PART", 4)
    config = ImportConfig(format="table", shard_size=3)
    path = write_rows(tmp_path / "t.jsonl", _paths(tmp_path, 10))
    run(opened(path, config), tmp_path / "whole")
    inputs = opened(path, config)

    def stop_at(count: int) -> Callable[[int], None]:
        left = [count]

        def progress(done: int) -> None:
            left[0] -= done
            if left[0] < 0:
                raise KeyboardInterrupt

        return progress

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        check_inputs(inputs, output, progress=stop_at(1))
    assert len(list((output / ".check").iterdir())) == 2
    checked = check_inputs(inputs, output)
    with pytest.raises(KeyboardInterrupt):
        write_preferences(inputs, checked, output, stop_at(2))
    assert not (output / "manifest.json").exists()
    run(inputs, output)
    assert files_in(output) == files_in(tmp_path / "whole")


def _paths(folder: Path, count: int) -> list[dict[str, str]]:
    write_images(folder, {f"i/{n}.png": png(n) for n in range(count + 1)})
    return [{"winner": f"i/{n}.png", "loser": f"i/{n + 1}.png", "prompt": str(n)} for n in range(count)]


def test_workers_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_PART", 2)
    inputs = opened(write_rows(tmp_path / "t.csv", _paths(tmp_path, 9)))
    alone = check_inputs(inputs, tmp_path / "alone")
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        together = check_inputs(inputs, tmp_path / "together", executor=executor)
    assert files_in(tmp_path / "alone") == files_in(tmp_path / "together") and alone.sha256 == together.sha256


@pytest.mark.parametrize("change", ["another", "gone"])
def test_an_image_that_changes_after_its_check_is_an_error(tmp_path: Path, change: str) -> None:
    inputs = opened(write_rows(tmp_path / "t.csv", _paths(tmp_path, 3)))
    checked = check_inputs(inputs, tmp_path / "out")
    (tmp_path / "i/1.png").unlink() if change == "gone" else (tmp_path / "i/1.png").write_bytes(png(99))
    with pytest.raises(ValueError, match=r"row 1 of t\.csv has changed since it was checked"):
        write_preferences(inputs, checked, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_another_input_or_config_does_not_mix(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.parquet", rows_of_pairs(3))
    run(opened(path), tmp_path / "out")
    with pytest.raises(ValueError, match=r"other settings: config\.config\.ties"):
        run(opened(path, ImportConfig(format="table", ties=True)), tmp_path / "out")
    write_rows(path, rows_of_pairs(4))
    with pytest.raises(ValueError, match=r"other settings: inputs\.t\.parquet"):
        run(opened(path), tmp_path / "out")


def test_images_that_changed_under_the_same_names_are_another_input(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.csv", _paths(tmp_path, 3))
    run(opened(path), tmp_path / "out")
    rmtree(tmp_path / "out/.check")
    (tmp_path / "i/1.png").write_bytes(png(99))
    with pytest.raises(ValueError, match=r"other settings: inputs\.rows"):
        run(opened(path), tmp_path / "out")


def test_the_folder_of_another_stage_is_left_alone(tmp_path: Path) -> None:
    from tests.preferences import bright_preferences_folder

    bright_preferences_folder(tmp_path / "out", 4)
    before = files_in(tmp_path / "out")
    with pytest.raises(ValueError, match="holds the work of stage test: choose another --output"):
        run(opened(write_rows(tmp_path / "t.parquet", rows_of_pairs(3))), tmp_path / "out")
    assert files_in(tmp_path / "out") == before


def test_shards_are_cut_between_comparisons(tmp_path: Path) -> None:
    write_images(tmp_path, {f"{n}.png": png(n) for n in range(5)})
    rows = [{"image": f"{n}.png", "group": group, "score": n} for group in "abc" for n in range(5)]
    inputs = opened(write_rows(tmp_path / "t.csv", rows), ImportConfig(format="table", shard_size=11))
    checked = check_inputs(inputs, tmp_path / "out")
    assert list(checked.pairs) == [10, 10, 10] and shards_of(inputs, checked) == [range(2), range(2, 3)]
    manifest = write_preferences(inputs, checked, tmp_path / "out")
    assert [shard.rows for shard in manifest.shards] == [20, 10]


def test_several_files_and_a_url(tmp_path: Path) -> None:
    rows = rows_of_pairs(5)
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data/a.parquet", rows[:2])
    write_rows(tmp_path / "data/b.parquet", rows[2:])
    inputs = open_inputs(input_files([tmp_path / "data"]), TABLE)
    output = f"memory://{tmp_path.name}/out"
    write_preferences(inputs, check_inputs(inputs, output), output)
    assert [row.winner for row in read_records(output, Preference)] == [png(n, 1) for n in range(5)]
    assert set(read_manifest(output).plan.inputs) == {"a.parquet", "b.parquet", "rows"}


def test_the_check_is_hidden_from_those_who_take_all_shards_in_a_folder(tmp_path: Path) -> None:
    run(opened(write_rows(tmp_path / "t.parquet", rows_of_pairs(3))), tmp_path / "out")
    found = glob("**/*.parquet", root_dir=tmp_path / "out", recursive=True)  # noqa: PTH207  # pathlib's finds the hidden
    assert found == ["shard-00000.parquet"] and (tmp_path / "out/.check/shard-00000.parquet").exists()


def test_images_are_not_held(tmp_path: Path) -> None:
    """150 pairs of 108 KB each, 16 MB in all: the check holds a batch of 16 rows at a time, the import a shard of 8."""
    pixels = numpy.random.default_rng(0)
    schema, writer = None, None
    for _ in range(3):
        pairs = [
            {side: held(encode_png(Image.fromarray(pixels.integers(0, 256, (134, 134, 3), dtype=numpy.uint8))))
             for side in ("winner", "loser")}
            for _ in range(50)
        ]  # fmt: skip
        table = pyarrow.Table.from_pylist(pairs, schema=schema)
        writer = writer or pyarrow.parquet.ParquetWriter(tmp_path / "t.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    size = (tmp_path / "t.parquet").stat().st_size
    assert size > 15e6
    tracemalloc.start()
    try:
        inputs = opened(tmp_path / "t.parquet", ImportConfig(format="table", shard_size=8))
        checked = check_inputs(inputs, tmp_path / "out")
        _, of_check = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        stage.write_preferences(inputs, checked, tmp_path / "out")
        _, of_import = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(
        f"peak of the check {of_check / 1e6:.1f} MB, of the import {of_import / 1e6:.1f} MB, input {size / 1e6:.0f} MB"
    )
    assert of_check < size / 5 and of_import < size / 3
