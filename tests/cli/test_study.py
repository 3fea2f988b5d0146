"""`onereward study` as a user runs it: from pictures to tables, by the commands alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onereward.cli.main import main
from onereward.people.database import Database
from onereward.study.collecting import Collecting
from tests.study.running import SYSTEMS, answer_all, answer_next, write_inputs


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """What makes a study of four items, one block, without checks."""
    inputs = write_inputs(tmp_path / "inputs", 4)
    systems = [word for name in SYSTEMS for word in ("--system", f"{name}={inputs[name]}")]
    return ["new", "--input", str(inputs["triplets"]), *systems, "--ratings-per-output", "1", "--block", "3",
            "--practice", "1", "--check-every", "0", "--title", "A study"]  # fmt: skip


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """Runs `onereward study WORDS` on the database; what it prints, or the error."""
    assert main(["study", *words, "--database", str(tmp_path / "study.sqlite"), "--json"]) == code
    said = capsys.readouterr()
    return said.err if code else json.loads(said.out or "null")


def test_from_pictures_to_tables(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, capsys, *words, "--rule", "answered_share=0.1") == {"blocks": 1}
    assert "holds a study" in run(tmp_path, capsys, *words, code=2)
    assert run(tmp_path, capsys, "rules", "--set", "minimum_seconds=1")["answered_share"] == 0.1
    person = run(tmp_path, capsys, "people", "add", "Ann", "--url", "https://study.example/")
    assert person["link"].startswith("https://study.example/enter#")
    assert "/join#" in run(tmp_path, capsys, "open")["link"]
    assert "no results until" in run(tmp_path, capsys, "analyse", "--output", str(tmp_path / "tables"), code=2)
    with Database(str(tmp_path / "study.sqlite")) as database:
        collecting = Collecting(database)
        collecting.consent(person["id"])
        collecting.begin_practice(person["id"])
        answer_next(collecting, person["id"])
        collecting.begin_block(person["id"])
        answer_next(collecting, person["id"])
        assert "of 6 pages are answered" in run(tmp_path, capsys, "close", code=2)
        answer_all(collecting, person["id"])
    assert "after the first answer" in run(tmp_path, capsys, "rules", "--set", "minimum_seconds=9", code=2)
    status = run(tmp_path, capsys, "status")
    assert (status["answers"], status["finished"], status["closed"]) == (6, 1, False)
    head = run(tmp_path, capsys, "verify")["head"]
    run(tmp_path, capsys, "close")
    again = run(tmp_path, capsys, "verify", "--expect", head)
    assert again["events"] == again["expected"] + 1
    assert main(["study", "verify", "--database", str(tmp_path / "study.sqlite"), "--expect", head]) == 0
    assert f"the expected hash is that of event {again['expected']} of {again['events']}" in capsys.readouterr().out
    for late in (["open"], ["people", "add", "Bob"]):
        assert "this study is closed and takes no more answers" in run(tmp_path, capsys, *late, code=2)
    assert "/enter#" in run(tmp_path, capsys, "people", "add", "Eve", "--role", "admin")["link"]
    assert run(tmp_path, capsys, "analyse", "--output", str(tmp_path / "tables"))["left_out"] == 0
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        "study.html",
        "study.json",
        "table3.md",
        "table3.csv",
    }
    assert run(tmp_path, capsys, "people", "erase", person["id"]) == {
        "id": person["id"],
        "erased": True,
        "counted": True,
    }
    assert {entry["name"] for entry in run(tmp_path, capsys, "people", "list")} == {None, "Eve"}
    copied = run(tmp_path, capsys, "backup", "--output", str(tmp_path / "copy"))
    assert (
        run(tmp_path / "copy", capsys, "verify")["head"] == copied["head"]
    )  # its pictures are where they are looked for
    planning = ["study", "plan", "--half-width", "0.2", "--pilot", str(tmp_path / "study.sqlite"), "--answers", "3"]
    assert main(planning) == 2
    assert "the answers of two people about two items" in capsys.readouterr().err


def test_pictures_and_databases_of_another_kind_are_told(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, capsys, *words)
    for way in (["verify"], ["backup", "--output", str(tmp_path / "copy")]):
        assert main(["annotate", *way, "--database", str(tmp_path / "study.sqlite")]) == 2
        assert "the database holds a user study" in capsys.readouterr().err
    picture = sorted((tmp_path / "study.sqlite.images").rglob("*.png"))[0]
    picture.write_bytes(picture.read_bytes()[:-1])
    assert "is not the picture that was kept there" in run(tmp_path, capsys, "verify", code=2)
    picture.unlink()
    assert f"1 of 20 pictures is missing, the first {picture}" in run(tmp_path, capsys, "verify", code=2)
    folders = ["--input", str(tmp_path / "inputs/triplets"), "--candidates", str(tmp_path / "inputs" / SYSTEMS[0])]
    words = [*folders, "--database", str(tmp_path / "study.sqlite"), "--output", str(tmp_path / "x")]
    for way in ("export", "oracle"):
        assert main(["annotate", way, *words]) == 2
        assert "the database holds a user study" in capsys.readouterr().err


def test_where_nobody_is_counted_it_is_said(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, capsys, *words, "--rule", "minimum_seconds=9999")
    person = run(tmp_path, capsys, "people", "add", "Ann")["id"]
    with Database(str(tmp_path / "study.sqlite")) as database:
        collecting = Collecting(database)
        collecting.consent(person)
        collecting.begin_practice(person)
        answer_next(collecting, person)
        collecting.begin_block(person)
        answer_all(collecting, person)
    run(tmp_path, capsys, "close")
    where = ["--database", str(tmp_path / "study.sqlite"), "--output", str(tmp_path / "tables")]
    assert main(["study", "analyse", *where]) == 0
    assert (
        capsys.readouterr().out == f"0 of 1 people counted: see who and why in {tmp_path / 'tables' / 'study.html'}\n"
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--rule", "hurried=1"], "got --rule 'hurried=1'; did you mean 'hurried_share'?"),
        (["--rule", "minimum_seconds=-1"], "got minimum_seconds -1.0, expected 0 or more"),
        (["--ratings-per-output", "100000000"], "which takes 100,000,000 participants; expected 10,000 at most"),
        (["--practice", "1000000"], "got 4 triplets, expected at least 1000003"),
        (["--only-compare"], "--only-compare needs --compare A B"),
        (["--index", "7"], "has no candidate of index 7"),
        (["--consent", "latin.txt"], "got --consent latin.txt, which is no text in UTF-8"),
    ],
)
def test_what_makes_no_study_is_said_by_its_name(
    tmp_path: Path,
    words: list[str],
    more: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("Einverständnis".encode("latin-1"))
    assert says in run(tmp_path, capsys, *words, *more, code=2)
    assert not list(tmp_path.glob("study.sqlite*"))


def test_status_tells_people_from_places(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, capsys, *words)
    run(tmp_path, capsys, "people", "add", "Ann")
    assert main(["study", "status", "--database", str(tmp_path / "study.sqlite")]) == 0
    said = capsys.readouterr().out
    assert "places, each one participant's block of pages: 1, of which 0 are taken and 0 finished" in said
    assert "people with a link: 1, of whom 0 have agreed to take part; 0 have left" in said


def test_a_plan_by_variances(capsys: pytest.CaptureFixture[str]) -> None:
    """More answers where less width is wanted; 40 items by 10 a participant, variances of a score."""
    sizes = []
    for wanted in ("0.5", "0.3"):
        words = ["study", "plan", "--half-width", wanted, "--variances", "0.1", "0.2", "0.6", "--items", "40", "--json"]
        assert main(words) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert row["half_width"] <= float(wanted) and row["ratings"] == 40 * row["answers"]
        sizes.append(row["participants"])
    assert sizes[0] < sizes[1]
    assert main(["study", "plan", "--half-width", "0.01", "--variances", "0.1", "0.2", "0.6", "--items", "40"]) == 2


def test_the_server_starts_without_torch(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, capsys, *words)
    code = (
        "import sys, onereward.web.server as server\n"
        "server.serve = lambda *_, **__: print({'torch', 'transformers', 'diffusers'} & set(sys.modules))\n"
        "from onereward.cli.main import main\n"
        f"main(['study', 'serve', '--port', '0', '--database', {str(tmp_path / 'study.sqlite')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[2] == "set()", done.stdout + done.stderr
    assert "study people add NAME --role admin" in done.stdout.splitlines()[1]
    assert done.stdout.startswith("listening on http://127.0.0.1:")
