"""The verb `score`: a pair, a table, wrong words; and that a killed run ends with the bytes of one that was not."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from onereward import load_judge
from onereward.cli.main import main
from onereward.edit.judge import ImageJudge
from onereward.edit.pictures import read_picture
from tests.pictures import noise
from tests.tiny_judge import tiny_judge_folder

SIZES = (40, 33, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge_folder(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder: Path) -> ImageJudge:
    return load_judge(str(folder))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for size in SIZES:
        noise(size, 32).save(tmp_path / f"{size}.png")
    return tmp_path


def table(folder: Path, count: int, **change: str) -> Path:
    rows = [
        {"first": f"{SIZES[n % 3]}.png", "second": "64.png", "task": "fill", "prompt": f"star {n}"}
        for n in range(count)
    ]
    rows[-1] |= change
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "pairs.jsonl"


def score(folder: Path, *words: str | Path) -> int:
    return main(["score", "--judge", str(folder), *map(str, words)])


def test_a_pair_is_a_table_or_json(
    folder: Path, judge: ImageJudge, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ["--first", pictures / "40.png", "--second", pictures / "64.png", "--task", "fill"]
    assert score(folder, *pair, "--prompt", "a star", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    images = [read_picture(pictures / name, name) for name in ("40.png", "64.png")]
    expected = judge.scores(*images, "fill", "a star")
    assert said == {"scores": {name: vars(one) for name, one in expected.items()}, "judge": judge.fingerprint}
    assert score(folder, *pair, "--dimension", "aesthetics", "structure") == 0
    head, aesthetics, structure, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["dimension", "P(first", "better)", "log-odds", "swapped", "outside"]
    for line, dimension in ((aesthetics, "aesthetics"), (structure, "structure")):
        name, probability, forward, backward, outside = line.split()
        one = expected[dimension]  # type: ignore[index]
        assert name == dimension and float(probability) == pytest.approx(one.probability, abs=6e-4)
        assert float(forward) == pytest.approx(one.log_odds_forward, abs=6e-4)
        assert float(backward) == pytest.approx(one.log_odds_backward, abs=6e-4)
        assert float(outside) == pytest.approx(one.outside_mass, abs=6e-5)
    assert last == f"judge {folder}, sha256 {judge.fingerprint}"


def test_a_table_is_scored_and_the_exit_code_says_whether_whole(
    folder: Path, judge: ImageJudge, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ["--input", table(pictures, 5), "--output", pictures / "whole", "--dimension", "structure"]
    assert score(folder, *whole) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"5 of 5 pairs scored in {pictures / 'whole'} (5 scores)\n") and said.err == ""
    partly = ["--input", table(pictures, 5, first="none.png"), "--output", pictures / "partly"]
    for _ in range(2):
        assert score(folder, *partly, "--json") == 2
        said = capsys.readouterr()
        assert json.loads(said.out) == {
            "output": str(pictures / "partly"),
            "pairs": 5,
            "failed": 1,
            "scores": 16,
            "judge": judge.fingerprint,
        }
        assert said.err.startswith(
            f"onereward: error: 1 of 5 pairs have no score, {pictures / 'partly/failed.jsonl'} says why"
        )
        assert said.err.count("\n") == 1
    assert json.loads((pictures / "partly/failed.jsonl").read_text())["id"] == "row-5"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --first and --second, or --input, or --serve: one of the three"),
        (["--input", "x.jsonl", "--serve"], "give --first and --second, or --input, or --serve: one of the three"),
        (["--first", "40.png"], "--second, --task must be given"),
        (["--first", "40.png", "--second", "none.png", "--task", "fill"], "none.png: no such file or directory"),
        (
            ["--first", "40.png", "--second", "pairs.jsonl", "--task", "fill"],
            "cannot read pairs.jsonl: it is no picture",
        ),
        (
            ["--first", "40.png", "--second", "64.png", "--task", "fill", "--dimension", "removal_quality"],
            "task 'fill' is not judged by 'removal_quality'",
        ),
        (
            ["--first", "40.png", "--second", "64.png", "--task", "fill", "--dimension", "text_alignment"],
            "give the prompt",
        ),
        (
            ["--first", "40.png", "--second", "64.png", "--task", "fill", "--device", "tpu"],
            "got device tpu, expected one",
        ),
        (["--input", "pairs.jsonl"], "--output must be given"),
        (["--input", "none.jsonl", "--output", "out"], "none.jsonl: no such file or directory"),
        (
            ["--input", "pairs.jsonl", "--output", "s3://bucket/out"],
            "got --output s3://bucket/out, expected a local folder",
        ),
        (["--input", "pairs.jsonl", "--output", "out", "--batch", "0"], "got a batch of 0"),
        (["--serve", "--batch", "0"], "got a batch of 0"),
        (["--serve", "--wait", "-1"], "got a wait of -1.0 ms"),
        (["--serve", "--queue", "0"], "got a limit of 0 for waiting"),
        (["--serve", "--host", "0.0.0.0"], "--host 0.0.0.0 is open to others: give a --token"),
        (["--serve", "--port", "70000"], "got --port 70000"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    folder: Path,
    pictures: Path,
    words: Sequence[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pictures)
    monkeypatch.delenv("ONEREWARD_TOKEN", raising=False)
    table(pictures, 2)
    assert score(folder, *words) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (pictures / "out").exists()


def test_no_judge_is_said_after_wrong_rows(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", "--judge", str(pictures), "--output", str(pictures / "out"), "--input"]
    assert main([*words, str(table(pictures, 2, task="paint"))]) == 2
    assert "has 1 wrong row: row 2: unknown task 'paint'" in capsys.readouterr().err
    assert main([*words, str(table(pictures, 2))]) == 2
    assert "no judge at" in capsys.readouterr().err


def test_serving_without_its_library_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("onereward.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert score(folder, "--serve") == 1
    assert "serving needs the library 'fastapi': pip install 'onereward[web]'" in capsys.readouterr().err


def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(folder: Path, pictures: Path) -> None:
    killed, whole = pictures / "killed", pictures / "whole"
    words: list[str | Path] = [
        "--input",
        table(pictures, 260, second="none.png"),
        "--dimension",
        "structure",
        "--output",
    ]
    command = [sys.executable, "-m", "onereward", "score", "--judge", folder, *words, killed]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (killed / "shard-00000.parquet").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "manifest.json").exists()
    assert score(folder, *words, killed) == score(folder, *words, whole) == 2
    assert bytes_of(killed) == bytes_of(whole)
    assert len(bytes_of(whole)) == 5 + 2


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
