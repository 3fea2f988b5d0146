"""Wrong input and a full disk, through the command line: one line, the exit code, nothing half-written."""

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from onereward.cli.main import main
from onereward.store.shards import read_manifest
from tests.tiny import tiny_flux_fill_folder


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_flux_fill_folder(tmp_path_factory.mktemp("editor")))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    assert main(["data", "toy", "--output", str(folder), "--count", "4"]) == 0
    return folder


def fails(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 2) -> str:
    """Run the command, check its exit code and that it says one line, and return that line."""
    capsys.readouterr()
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("onereward: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ["select", "--count", "2"],
        ["generate", "--editor", "toy"],
        ["annotate", "oracle", "--candidates", "nowhere", "--database", "votes.sqlite"],
        ["annotate", "export", "--candidates", "nowhere", "--database", "votes.sqlite"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_a_missing_input_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in fails(capsys, [*words, "--input", "nowhere", "--output", "out"])
    assert files_under(tmp_path) == set()


def test_a_finished_shard_with_a_wrong_hash_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pool: Path, editor: str
) -> None:
    shard = next(pool.glob("*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    output = tmp_path / "candidates"
    line = fails(capsys, ["generate", "--editor", editor, "--input", str(pool), "--output", str(output)])
    assert shard.name in line
    assert not output.exists() or files_under(output) == set()


def test_another_config_for_a_finished_stage_is_refused(capsys: pytest.CaptureFixture[str], pool: Path) -> None:
    before = {path: path.read_bytes() for path in pool.iterdir()}
    assert "count" in fails(capsys, ["data", "toy", "--output", str(pool), "--count", "5"])
    assert {path: path.read_bytes() for path in pool.iterdir()} == before


def test_an_unknown_split_lists_the_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fails(capsys, ["data", "toy", "--output", str(tmp_path / "pool"), "--count", "2", "--split", "holiday"])
    assert "'holiday'" in line
    assert "validation" in line


def test_an_unknown_task_lists_the_known(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = fails(capsys, ["data", "toy", "--output", str(tmp_path / "pool"), "--count", "2", "--tasks", "paint"])
    assert "fill" in line
    assert "remove" in line


def test_a_full_disk_leaves_nothing_half_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "pool"
    words = ["data", "toy", "--output", str(output), "--count", "40"]
    sync, calls = os.fsync, []

    def sync_until_full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_until_full)
    line = fails(capsys, words, code=1)
    assert "the disk is full under" in line
    assert str(output) in line
    assert not (output / "manifest.json").exists()
    assert all(name.endswith(".parquet") for name in files_under(output))
    monkeypatch.setattr(os, "fsync", sync)
    assert main(words) == 0
    assert read_manifest(output).rows == 40


@pytest.fixture
def picture(tmp_path: Path) -> dict[str, Path]:
    """A picture, a mask of its size, and three wrong masks or images."""
    paths = {name: tmp_path / f"{name}.png" for name in ("image", "mask", "small", "empty", "corrupt")}
    Image.new("RGB", (40, 32), "green").save(paths["image"])
    mask = Image.new("L", (40, 32))
    mask.save(paths["empty"])
    mask.paste(255, (10, 10, 20, 20))
    mask.save(paths["mask"])
    mask.resize((20, 16)).save(paths["small"])
    paths["corrupt"].write_bytes(paths["image"].read_bytes()[:60])
    return paths


def edit_words(editor: str, image: Path, mask: Path, output: Path, task: str = "fill") -> list[str]:
    paths = ["--image", str(image), "--mask", str(mask), "--output", str(output)]
    return ["edit", "--editor", editor, *paths, "--prompt", "a red star", "--task", task, "--steps", "1"]


@pytest.mark.parametrize(
    ("image", "mask", "task", "says"),
    [
        ("absent", "mask", "fill", "absent.png"),
        ("image", "absent", "fill", "absent.png"),
        ("image", "small", "fill", "the mask is 20x16 and the image 40x32"),
        ("image", "empty", "fill", "the mask is empty"),
        ("corrupt", "mask", "fill", "corrupt.png"),
        ("image", "mask", "paint", "remove"),
    ],
)
def test_edit_refuses_wrong_pictures(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    editor: str,
    picture: dict[str, Path],
    image: str,
    mask: str,
    task: str,
    says: str,
) -> None:
    paths = picture | {"absent": tmp_path / "absent.png"}
    before = files_under(tmp_path)
    assert says in fails(capsys, edit_words(editor, paths[image], paths[mask], tmp_path / "out.png", task))
    assert files_under(tmp_path) == before


def test_edit_refuses_an_unknown_editor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, picture: dict[str, Path]
) -> None:
    line = fails(capsys, edit_words("./no-such-editor", picture["image"], picture["mask"], tmp_path / "out.png"))
    assert "no-such-editor" in line


def test_edit_writes_the_picture_or_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    editor: str,
    picture: dict[str, Path],
) -> None:
    words = edit_words(editor, picture["image"], picture["mask"], tmp_path / "out.png")
    before = files_under(tmp_path)
    with monkeypatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        assert "the disk is full" in fails(capsys, words, code=1)
    assert files_under(tmp_path) == before
    assert main(words) == 0
    assert Image.open(tmp_path / "out.png").size == (40, 32)
