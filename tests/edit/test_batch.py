"""Many edits into a folder: every form of input, resumed = never stopped, two workers = one, recipes rerun."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from onereward.cli.main import main
from onereward.edit.job_files import read_rows
from onereward.edit.jobs import digest_of
from onereward.toy.pool import ToyPoolConfig, write_toy_pool
from onereward.toy.scenes import Split
from tests.pictures import hole, noise
from tests.tiny import tiny_flux_fill_folder


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_flux_fill_folder(tmp_path_factory.mktemp("editor")))


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Four edits of pictures in several modes and sizes under tmp_path."""
    made = []
    for index, mode in enumerate(["RGB", "RGBA", "I;16", "L"]):
        picture = noise(30 + 9 * index, 40, mode)
        picture.save(tmp_path / f"p{index}.png")
        hole(picture.size, (4, 5, 20, 25)).save(tmp_path / f"p{index}.mask.png")
        row = {"image": f"p{index}.png", "mask": f"p{index}.mask.png", "task": "fill", "prompt": f"a star {index % 2}"}
        made.append({**row, "seed": index, "steps": 2})
    made[3] = {"image": "p3.png", "task": "extend", "left": 8, "steps": 1, "true_cfg": 2.0, "negative_prompt": "nsfw"}
    return made


def write_jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "jobs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return file


def write_csv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "jobs.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "jobs.parquet"
    names = dict.fromkeys(name for row in rows for name in row)
    pyarrow.parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in names}), file)
    return file


def write_parquet_of_images(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """As `datasets` embeds images, bytes beside a path."""
    held = [
        {**row, "name": Path(row["image"]).stem}
        | {
            name: {"bytes": (folder / row[name]).read_bytes(), "path": None}
            for name in ("image", "mask")
            if name in row
        }
        for row in rows
    ]
    return write_parquet(folder, held)


def run(editor: str, source: Path, output: Path, *words: str) -> int:
    return main(["edit", "--editor", editor, "--input", str(source), "--output", str(output), *words])


def pixels_in(folder: Path) -> dict[str, str]:
    return {path.name: digest_of(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_form_of_jobs_gives_the_same_images(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writers: list[Callable[[Path, list[dict[str, Any]]], Path]]
    writers = [write_jsonl, write_csv, write_parquet, write_parquet_of_images]
    found = []
    for writer in writers:
        output = tmp_path / writer.__name__
        assert run(editor, writer(tmp_path, rows), output, "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"output": str(output), "images": 4, "made": 4}
        found.append(pixels_in(output))
    assert list(found[0]) == ["p0.png", "p1.png", "p2.png", "p3.png"]
    assert all(one == found[0] for one in found)
    images = [Image.open(tmp_path / "write_csv" / f"p{index}.png") for index in range(4)]
    assert [image.mode for image in images] == ["RGB", "RGBA", "I;16", "L"]
    for image, row in zip(images[:3], rows, strict=False):
        outside = numpy.asarray(Image.open(tmp_path / row["mask"])) == 0
        assert numpy.array_equal(
            numpy.asarray(image)[outside], numpy.asarray(Image.open(tmp_path / row["image"]))[outside]
        )


def test_a_folder_of_pictures_with_masks_and_prompts(editor: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "p3.png").unlink()
    (tmp_path / "p3.mask.png").unlink()
    (tmp_path / "p0.txt").write_text("a star 0\n")
    (tmp_path / "p1.mask.png").rename(tmp_path / "p1_mask.png")
    read = read_rows(tmp_path, {"task": "fill", "prompt": "a disc"})
    assert [(row.name, row.job.prompt, Path(row.job.mask or "").name) for row in read] == [
        ("p0", "a star 0", "p0.mask.png"),
        ("p1", "a disc", "p1_mask.png"),
        ("p2", "a disc", "p2.mask.png"),
    ]
    assert run(editor, tmp_path, tmp_path / "out", "--task", "remove", "--steps", "1") == 0
    assert list(pixels_in(tmp_path / "out")) == ["p0.png", "p1.png", "p2.png"]


def test_a_folder_of_triplets(editor: str, tmp_path: Path) -> None:
    write_toy_pool(tmp_path / "pool", ToyPoolConfig(split=Split.VALIDATION, count=6))
    read = read_rows(tmp_path / "pool", {})
    assert len(read) == 6 and len({row.name for row in read}) == 6
    assert run(editor, tmp_path / "pool", tmp_path / "out", "--steps", "1") == 0
    assert len(pixels_in(tmp_path / "out")) == 6


def test_several_images_a_row_and_a_grid(editor: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, rows[:2])
    assert run(editor, source, tmp_path / "out", "--images", "3", "--grid") == 0
    names = [f"p{row}{end}.png" for row in (0, 1) for end in ("-0", "-1", "-2", "-grid")]
    assert list(pixels_in(tmp_path / "out")) == names and len(set(pixels_in(tmp_path / "out").values())) == 8
    recipe = json.loads((tmp_path / "out" / "p1-2.json").read_text())
    assert recipe["job"]["seed"] == 1 + 2
    grid = Image.open(tmp_path / "out" / "p0-grid.png")
    assert grid.size == (5 * 30, 40 + 14)
    cells = [grid.crop((30 * index, 14, 30 * index + 30, 54)) for index in range(5)]
    assert cells[0].tobytes() == Image.open(tmp_path / "p0.png").tobytes()
    assert cells[4].tobytes() == Image.open(tmp_path / "out" / "p0-2.png").tobytes()
    assert cells[1].getpixel((10, 10)) != cells[0].getpixel((10, 10))


def test_done_work_is_left_alone_and_missing_work_made(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write_jsonl(tmp_path, rows), tmp_path / "out"
    assert run(editor, source, output, "--batch-size", "2") == 0
    before = bytes_in(output)
    (output / "p2.png").unlink()
    (output / "p3.json").unlink()
    capsys.readouterr()
    assert run(editor, source, output, "--batch-size", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["made"] == 2 and bytes_in(output) == before
    assert run(editor, source, output, "--batch-size", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["made"] == 0


def test_another_job_under_a_name_that_is_there_is_refused(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(editor, write_jsonl(tmp_path, rows), output) == 0
    before = bytes_in(output)
    rows[3]["steps"] = 2
    assert run(editor, write_jsonl(tmp_path, rows), output) == 2
    assert "p3.json is the recipe of another edit (steps differ)" in capsys.readouterr().err
    assert bytes_in(output) == before


def test_two_workers_make_the_same_bytes(editor: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, rows)
    for workers in ("1", "2"):
        assert run(editor, source, tmp_path / workers, "--batch-size", "1", "--images", "2", "--workers", workers) == 0
    assert bytes_in(tmp_path / "1") == bytes_in(tmp_path / "2")


def test_a_killed_run_goes_on_to_the_same_bytes(editor: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, rows)
    words = ["edit", "--editor", editor, "--input", str(source), "--images", "9", "--batch-size", "3"]
    assert main([*words, "--output", str(tmp_path / "whole")]) == 0
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "onereward", *words, "--output", str(killed)])
    while len(list(killed.glob("*.json"))) < 4 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and 4 <= len(list(killed.glob("*.json"))) < 36
    assert main([*words, "--output", str(killed)]) == 0
    assert bytes_in(killed) == bytes_in(tmp_path / "whole")


def test_a_recipe_makes_its_image_again(editor: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, rows)
    assert run(editor, source, tmp_path / "single", "--batch-size", "1") == 0
    assert run(editor, source, tmp_path / "four", "--batch-size", "4") == 0
    for index in range(4):
        again = tmp_path / "again.png"
        assert main(["edit", "--recipe", str(tmp_path / "single" / f"p{index}.json"), "--output", str(again)]) == 0
        assert digest_of(Image.open(again)) == digest_of(Image.open(tmp_path / "single" / f"p{index}.png"))
        together = numpy.asarray(Image.open(tmp_path / "four" / f"p{index}.png")).astype(int)
        assert abs(together - numpy.asarray(Image.open(again))).max() <= (257 if index == 2 else 1)


def test_wrong_rows_are_listed_before_any_work(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows[1]["task"], rows[2]["seed"] = "paint", -1
    assert run("no/editor", write_jsonl(tmp_path, rows), tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "jobs.jsonl has 2 wrong rows: row 2: unknown task 'paint'" in error and "row 3: got seed -1" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing.jsonl", "no such file or folder"),
        (lambda folder: write_jsonl(folder, []), "holds no jobs"),
        (lambda folder: (folder / "jobs.txt").write_text("x") and folder / "jobs.txt", "is no jobs file"),
        (lambda folder: (folder / "jobs.jsonl").write_text("{") and folder / "jobs.jsonl", "line 1, is no JSON"),
        (lambda folder: (folder / "jobs.parquet").write_text("x") and folder / "jobs.parquet", "is no Parquet file"),
        (lambda folder: (folder / "jobs.jsonl").write_text("[1]") and folder / "jobs.jsonl", "expected an object"),
    ],
)
def test_what_holds_no_jobs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], message: str
) -> None:
    assert run("no/editor", make(tmp_path), tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_names_are_safe_and_unlike(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    many = [{**rows[0], "name": name} for name in ("a/../b", "same", "same", "..")]
    assert [row.name for row in read_rows(write_jsonl(tmp_path, many), {})] == [
        "a-..-b",
        "same-row2",
        "same-row3",
        "row-4",
    ]
    clash = [{**rows[0], "name": "a-0"}, {**rows[0], "name": "a", "images": 2}]
    with pytest.raises(ValueError, match=r"several rows would write a-0\.png"):
        read_rows(write_jsonl(tmp_path, clash), {})
    with pytest.raises(ValueError, match="got images 0, expected a whole number from 1 up"):
        read_rows(write_jsonl(tmp_path, rows), {}, images=0)
