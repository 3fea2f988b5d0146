"""The command line's frame: parsing, one-line errors, exit codes; the verb here is a made-up one."""

import argparse
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import UnidentifiedImageError

from onereward.cli import main as frame

Run = Callable[[argparse.Namespace], None]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Install a verb `probe`, with a subverb `deep`, that runs the given function."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--output", type=Path)
        parser.add_argument("--steps", type=int, default=3)
        parser.add_subparsers(dest="subverb").add_parser("deep").add_argument("--width", type=int)

    def install(run: Run) -> None:
        module = SimpleNamespace(HELP="look", EXAMPLE="onereward probe", add_arguments=add_arguments, run=run)
        monkeypatch.setitem(sys.modules, "onereward.cli.probe", module)
        monkeypatch.setitem(frame.VERBS, "probe", "look")

    return install


def _raise(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["-q", "--json", "probe", "deep", "--width", "2"],
        ["probe", "-q", "--json", "deep", "--width", "2"],
        ["probe", "deep", "--width", "2", "--json", "-q"],
    ],
)
def test_common_flags_are_taken_anywhere(verb: Callable[[Run], None], words: list[str]) -> None:
    seen = []
    verb(seen.append)
    assert frame.main(words) == 0
    assert vars(seen[0]) == {
        "quiet": True,
        "verbose": False,
        "json": True,
        "output": None,
        "steps": 3,
        "subverb": "deep",
        "width": 2,
    }


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ValueError("mask is 3x4,\n image 5x6"), 2, "mask is 3x4, image 5x6"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), 2, "a.png: no such file or directory"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a"), 2, "a: not a directory"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), 2, "b: permission denied"),
        (UnidentifiedImageError("cannot identify image file 'c.png'"), 2, "cannot identify image file 'c.png'"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/some/run/log.jsonl"),
            1,
            "the disk is full under /some/run;",
        ),
        (RuntimeError("sqlite3: database or disk is full"), 1, "the disk is full under out;"),
        (OSError(errno.EIO, "Input/output error", "d"), 1, "d: input/output error"),
        (MemoryError(), 1, "out of memory"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, "the library 'x' is missing; `make install`"),
        (KeyError("k"), 1, "unexpected KeyError: 'k'; this is a bug: run again with -v"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], error: Exception, code: int, says: str
) -> None:
    verb(_raise(error))
    assert frame.main(["probe", "--output", "out"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"onereward: error: {says}")
    assert captured.err.count("\n") == 1


def test_a_full_disk_is_found_behind_another_error(verb: Callable[[Run], None]) -> None:
    error = ValueError("could not write")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    verb(_raise(error))
    assert frame.main(["probe"]) == 1


def test_interrupted_by_the_keyboard(verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(_raise(KeyboardInterrupt()))
    assert frame.main(["probe"]) == 130
    assert capsys.readouterr().err == "onereward: interrupted; run the same command again to continue\n"


def test_sigterm_unwinds_like_the_keyboard(verb: Callable[[Run], None]) -> None:
    closed = []

    def run(args: argparse.Namespace) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    verb(run)
    assert frame.main(["probe"]) == 130
    assert closed == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_tracebacks_only_with_verbose(verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(_raise(ValueError("bad")))
    assert frame.main(["probe", "-v"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian-rl"], "unknown verb 'trian-rl'; did you mean 'train-rl'? the verbs are demo, edit,"),
        (["probe", "--steps", "x"], "argument --steps: invalid int value: 'x' (see: onereward probe --help)"),
        (["probe", "--step=1"], "unrecognized arguments: --step=1"),
        (["--nonsense", "probe"], "unrecognized arguments: --nonsense (see: onereward --help)"),
    ],
)
def test_wrong_words(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    verb(lambda args: None)
    assert frame.main(words) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"onereward: error: {says}")
    assert captured.count("\n") == 1


def test_no_words_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: onereward VERB")


def test_the_module_runs_as_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "onereward", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("onereward ")
    run = subprocess.run([sys.executable, "-m", "onereward", "nothing"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
