"""What `onereward annotate` and `onereward study` say of databases, people, links and exports."""

import argparse
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from onereward.annotate.work import Assignment, Choice, Submission, Work
from onereward.cli.main import main, verb_parser
from onereward.cli.people import web_address
from onereward.people.database import Database
from tests.annotate.running import project
from tests.study.running import study


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Runs `onereward WORDS`; what it prints, or the error."""
    assert main(list(words)) == code
    said = capsys.readouterr()
    return said.err if code else said.out


@pytest.fixture
def votes(tmp_path: Path) -> str:
    """The database of six items, which nobody has seen yet."""
    with project(tmp_path) as made:
        return made.place


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All commands below one, at any depth."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from commands(child)


@pytest.mark.parametrize("verb", ["annotate", "study"])
def test_every_sub_verb_has_an_example_that_parses(verb: str) -> None:
    below = list(commands(verb_parser(verb)))
    assert len(below) > 10
    for command in below:
        assert command.epilog, command.prog
        head, *examples = command.epilog.splitlines()
        assert head == "example:" and examples
        for example in examples:
            assert example.startswith(f"  {command.prog} "), example
            verb_parser(verb).parse_args(shlex.split(example)[2:])


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "https://votes.example.org/", "HTTP://[::1]:80", "http://h"])
def test_a_server_is_reached_at_a_host(text: str) -> None:
    assert web_address(text) == text.lower().removesuffix("/")


@pytest.mark.parametrize(
    "text",
    ["votes.example.org", "ftp://h", "http://", "http://h/path", "http://h?q", "http://h#f", "http://u@h", "http://h h",
     "http://h:port", "http://h//", "javascript://h", "http://h\n"],
)  # fmt: skip
@pytest.mark.parametrize(
    "words",
    ["annotate people add Ann", "annotate people link ID", "annotate serve", "study people add Ann", "study open",
     "study serve"],
)  # fmt: skip
def test_anything_else_is_refused_wherever_it_is_taken(
    capsys: pytest.CaptureFixture[str], words: str, text: str
) -> None:
    error = run(capsys, *words.split(), "--database", "none.sqlite", "--url", text, code=2)
    assert "argument --url: got" in error and "expected http://HOST or https://HOST" in error


def test_people_come_and_go_with_a_line_each(votes: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = "--database", votes
    said = run(capsys, "annotate", "people", "add", "Ann Lee", *where, "--url", "https://v.example.org/")
    name, number, link = (line.split(maxsplit=1) for line in said.splitlines())
    assert name == ["name", "Ann Lee"] and link[1].startswith("https://v.example.org/enter#")
    guessed = run(capsys, "annotate", "people", "link", number[1], *where).splitlines()[-1]
    assert guessed == "(for a server at http://127.0.0.1:8000; pass --url if it is elsewhere)"
    [row] = run(capsys, "annotate", "people", "list", *where).splitlines()[1:]
    assert row.split() == [number[1], "Ann", "Lee", "annotator", "-", "active"]
    again = json.loads(run(capsys, "annotate", "people", "link", number[1], *where, "--json"))
    assert (again["name"], again["id"]) == ("Ann Lee", number[1]) and again["link"] != link[1]
    said = run(capsys, "annotate", "people", "withdraw", number[1], *where)
    left, answers = said.split("; ")
    assert left == f"{number[1]} takes part no longer: link and sessions have ended"
    assert answers == "answers given before are kept and counted\n"
    run(capsys, "annotate", "people", "withdraw", number[1], "--drop", *where)
    said = run(capsys, "annotate", "people", "erase", number[1], *where)
    assert "the name is forgotten; answers given before are not counted any more" in said
    assert "nobody has the id x" in run(capsys, "annotate", "people", "erase", "x", *where, code=2)


def test_whose_database_it_is_is_asked_first(votes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with study(tmp_path / "study") as made:
        other = made.place
    for way in (["add", "Ann"], ["list"], ["link", "x"], ["withdraw", "x"], ["erase", "x"]):
        assert "user study" in run(capsys, "annotate", "people", *way, "--database", other, code=2)
        assert "no study" in run(capsys, "study", "people", *way, "--database", votes, code=2)
    assert "user study" in run(capsys, "annotate", "verify", "--database", other, code=2)
    assert "slash at the end" in run(capsys, "study", "status", "--database", f"{other}/", code=2)
    none = str(tmp_path / "none.sqlite")
    assert f"there is no database at {none}" in run(capsys, "study", "status", "--database", none, code=2)


def test_an_export_says_what_it_left_out(votes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = "--database", votes
    person = json.loads(run(capsys, "annotate", "people", "add", "Ann", *where, "--json"))["id"]
    with Database(votes) as database:
        work = Work(database)
        item = work.claim(person, uuid4())
        assert isinstance(item, Assignment)
        choices = tuple(Choice(dimension=each, best=0, worst=1, reason=None) for each in item.dimensions)
        work.answer(person, Submission(uuid=uuid4(), assignment=item.id, seconds=9.0, choices=choices))
    folders = "--input", str(tmp_path / "triplets"), "--candidates", str(tmp_path / "candidates")
    words = "annotate", "export", *folders, *where, "--weighting", "majority", "--output"
    said = run(capsys, *words, str(tmp_path / "some"), "-q")
    assert f"{len(choices)} preferences in" in said
    assert "left out: 0 choices on which the votes settle nothing" in said
    assert (
        "left out: 0 votes on items whose answers are known, 0 second ones of the same person, 0 that came too" in said
    )
    assert "5 items are not finished; the votes on them so far are counted" in said
    found = json.loads(run(capsys, *words, str(tmp_path / "some"), "-q", "--json"))
    assert (found["preferences"], found["undecided"], found["unfinished"]) == (len(choices), 0, 5)
