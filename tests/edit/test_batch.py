"""Many edits into a folder: every form of input, resumed = never stopped, two workers = one, recipes rerun."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from onereward.cli.main import main
from onereward.edit.batch import edit_all
from onereward.edit.editor import ImageEditor
from onereward.edit.job_files import read_rows
from onereward.edit.jobs import EditRequest, Recipe, digest_of
from onereward.models.contract import Contract
from onereward.runtime.threads import torch_threads
from onereward.store.shards import read_records
from onereward.terms import Triplet
from onereward.toy.pool import ToyPoolConfig, write_toy_pool
from onereward.toy.scenes import Split
from tests.pictures import hole, noise
from tests.tiny import TINY_CONTRACT, tiny_flux_fill_folder


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_flux_fill_folder(tmp_path_factory.mktemp("editor")))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """What a batch computes with, whatever the machine; an edit of one image takes what it finds."""
    with torch_threads(1):
        yield


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
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


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
    read = read_rows(tmp_path, {"task": "fill", "prompt": "a disc"}, tmp_path / "sources")
    assert [(row.name, row.job.prompt, Path(row.job.mask or "").name) for row in read] == [
        ("p0", "a star 0", "p0.mask.png"),
        ("p1", "a disc", "p1_mask.png"),
        ("p2", "a disc", "p2.mask.png"),
    ]
    assert run(editor, tmp_path, tmp_path / "out", "--task", "remove", "--steps", "1") == 0
    assert list(pixels_in(tmp_path / "out")) == ["p0.png", "p1.png", "p2.png"]


def test_a_folder_of_triplets(editor: str, tmp_path: Path) -> None:
    write_toy_pool(tmp_path / "pool", ToyPoolConfig(split=Split.VALIDATION, count=6))
    assert run(editor, tmp_path / "pool", tmp_path / "out", "--steps", "1") == 0
    triplets = {triplet.id: triplet for triplet in read_records(tmp_path / "pool", Triplet)}
    assert list(pixels_in(tmp_path / "out")) == sorted(f"{name}.png" for name in triplets)
    for name, triplet in triplets.items():
        job = Recipe.read(tmp_path / "out" / f"{name}.json").job
        assert Path(job.image).read_bytes() == triplet.image and Path(job.mask or "").read_bytes() == triplet.mask


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


def test_two_workers_make_the_same_bytes_whatever_threads_torch_has_here(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path, rows)
    torch.set_num_threads(2)
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
        difference = abs(together - numpy.asarray(Image.open(again)))
        assert difference.max() <= (257 if index == 2 else 1) and (difference > 0).mean() <= 0.001


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
        (
            lambda folder: (folder / "jobs.jsonl").write_text("\n{") and folder / "jobs.jsonl",
            "1 wrong row: row 2: no JSON",
        ),
        (
            lambda folder: (folder / "jobs.csv").write_bytes(b"image\n\xff") and folder / "jobs.csv",
            "is no CSV in UTF-8",
        ),
        (lambda folder: (folder / "jobs.csv").write_text("image\na,b") and folder / "jobs.csv", "more cells than"),
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
    many = [{**rows[0], "name": name} for name in ("a/../b", "same", "Same", "..", "é" * 100)]
    assert [row.name for row in read_rows(write_jsonl(tmp_path, many), {}, tmp_path)] == [
        "a-..-b",
        "same-row2",
        "Same-row3",
        "row-4",
        "é" * 100,
    ]
    for first, second in [
        ({"name": "a-0"}, {"name": "A", "images": 2}),
        ({"name": "a-grid"}, {"name": "a"}),
        ({"name": "a-row2"}, {"name": "a"}),
    ]:
        third = {**rows[0], "name": "a"} if first["name"] == "a-row2" else {**rows[0], "name": "other"}
        with pytest.raises(ValueError, match=r"several rows would write a-(0|grid|row2)\.png"):
            read_rows(write_jsonl(tmp_path, [{**rows[0], **first}, {**rows[0], **second}, third]), {}, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "none.png"}, r"none\.png: no such file"),
        ({"image": "torn.png"}, r"cannot read .*torn\.png"),
        ({"mask": "black.png"}, "the mask is empty"),
        ({"mask": "p1.mask.png"}, "the mask is 39x40 and the image 30x40"),
        ({"images": 0}, "got images 0, expected a whole number from 1 to"),
        ({"images": 1.5}, r"got images 1\.5"),
        ({"images": True}, "got images True"),
        ({"seed": 2**63 - 2, "images": 3}, "got seed 9223372036854775808"),
        ({"name": "n" * 201}, "is too long"),
        ({"left": 3}, "task fill takes a mask and nothing else"),
    ],
)
def test_a_row_that_cannot_be_made_is_met_before_any_work(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    message: str,
) -> None:
    (tmp_path / "torn.png").write_bytes((tmp_path / "p0.png").read_bytes()[:-200])
    Image.new("L", (30, 40)).save(tmp_path / "black.png")
    source = write_jsonl(tmp_path, [rows[1], {**rows[0], **change}])
    assert run("no/editor", source, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert re.search(f"has 1 wrong row: row 2: .*{message}", error) and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_rows_can_be_left_out(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows[1]["image"] = "none.png"
    assert run(editor, write_jsonl(tmp_path, rows), tmp_path / "out", "--skip-bad", "--steps", "1") == 0
    assert list(pixels_in(tmp_path / "out")) == ["p0.png", "p2.png", "p3.png"]
    [said] = [record.getMessage() for record in caplog.records if record.name == "onereward.edit.job_files"]
    assert "1 wrong row: row 2: " in said and "none.png: no such file" in said and "they are left out" in said


def test_pictures_in_the_rows_themselves_become_files_that_recipes_name(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    source, output = write_parquet_of_images(tmp_path, [*rows, {**rows[0], "seed": 8}]), tmp_path / "out"
    assert run(editor, source, output, "--batch-size", "1", "--steps", "1") == 0
    held = {path.read_bytes() for path in (output / "sources").iterdir()}
    named = [tmp_path / row[field] for row in rows for field in ("image", "mask") if field in row]
    assert held == {path.read_bytes() for path in named} and len(list((output / "sources").iterdir())) == 7
    recipe = output / "p2.json"
    assert recipe.stat().st_size < 1000
    again = tmp_path / "again.png"
    assert main(["edit", "--recipe", str(recipe), "--output", str(again)]) == 0
    assert digest_of(Image.open(again)) == pixels_in(output)["p2.png"] == json.loads(recipe.read_text())["pixels"]


def test_a_picture_that_is_to_be_edited_is_never_replaced(
    editor: str, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bytes_in(tmp_path)
    assert run(editor, tmp_path, tmp_path, "--task", "remove") == 2
    assert "p0.png is to be edited and would be replaced: name another --output" in capsys.readouterr().err
    assert bytes_in(tmp_path) == before


def test_defaults_fill_what_a_row_lacks(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    bare = [{"image": "p0.png"}, {"image": "p1.png", "mask": "p1.mask.png", "task": "fill", "prompt": "a disc"}]
    defaults = {"task": "extend", "ratio": "2:1", "prompt": "a star", "seed": 5}
    first, second = read_rows(write_jsonl(tmp_path, bare), defaults, tmp_path, images=2)
    assert (first.job.task, first.job.ratio, first.job.prompt, first.job.seed) == ("extend", "2:1", "a star", 5)
    assert (first.size, first.hole, first.images) == ((80, 40), (0, 0, 80, 40), 2)
    assert (second.job.task, second.job.ratio, second.job.prompt, second.job.seed) == ("fill", None, "a disc", 5)
    assert (second.size, second.hole) == ((39, 40), (4, 5, 20, 25))
    masked = {"image": "p0.png", "task": "remove", "images": 3.0, "prompt": "two\u2028lines"}
    [row] = read_rows(write_jsonl(tmp_path, [masked]), {"mask": os.path.relpath(tmp_path / "p0.mask.png")}, tmp_path)
    assert Path(row.job.mask or "") == tmp_path / "p0.mask.png" and row.images == 3


class Recorder:
    """Stands in for an editor: gives each picture back, and keeps the seeds of each batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.model = self
        self.kept: list[str] = []

    def keep_texts(self, words: Sequence[str]) -> None:
        self.kept.extend(words)

    def free_text_encoders(self) -> None:
        self.kept.append("freed")

    def edit_batch(self, edits: Sequence[EditRequest]) -> list[Image.Image]:
        self.batches.append([edit.seed for edit in edits])
        return [edit.image for edit in edits]


def test_a_batch_is_of_images_that_the_editor_sees_at_one_size(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    any_size = replace(TINY_CONTRACT, native_size=None)
    jobs = [{**rows[index % 2], "seed": 10 * index} for index in range(6)]
    jobs[4]["steps"] = 7
    read = read_rows(write_jsonl(tmp_path, jobs), {}, tmp_path)
    recorder = Recorder()

    def make(contract: Contract, load: Any = lambda: recorder) -> int:
        recipe = partial(Recipe, editor="recorder")
        return edit_all(read, tmp_path / "out", load, recipe, contract=contract, batch_size=2)

    assert make(any_size) == 6
    assert recorder.batches == [[0, 20], [10, 30], [50], [40]]
    assert recorder.kept == ["a star 0", "a star 1", "freed"]
    (tmp_path / "out" / f"{read[3].name}.png").unlink()
    recorder.batches.clear()
    assert make(any_size) == 2 and recorder.batches == [[10, 30]]

    def refuse() -> ImageEditor:
        raise AssertionError("nothing is missing: no editor is needed")

    assert make(any_size, refuse) == 0
    shutil.rmtree(tmp_path / "out")
    recorder.batches.clear()
    assert make(TINY_CONTRACT) == 6 and recorder.batches == [[0, 10], [20, 30], [50], [40]]
