"""The command `onereward VERB ...`: finds the verb's module, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 environment (disk, memory, a missing library), 2 wrong input, 130 interrupted.
"""

import argparse
import difflib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from onereward import __version__
from onereward.runtime.track import hush_libraries

# Kept here, not read from the modules, so that `--help` imports none of them; a test holds it equal to their HELP.
VERBS = {
    "demo": "run every stage on the toy models, from scenes to a better editor and a report",
    "edit": "repaint the masked part of one image",
    "serve": "answer edits over HTTP, one after the other",
    "score": "ask the judge which of two pictures is better: one pair, a table of them, or over HTTP",
    "select": "pick representative triplets from a pool",
    "generate": "make N candidates for each triplet",
    "annotate": "collect votes on candidates and export them as preferences",
    "study": "ask people about systems' outputs, blind: ratings, good-same-bad, tables with intervals",
    "train-reward": "train the judge on preferences",
    "plan": "memory and seconds of a step of train-rl before it is launched, with the arithmetic",
    "train-rl": "train the editor through the judge (Algorithms 1 and 2)",
    "watch": "show a training run in the terminal while it is at work",
    "evaluate": "measure an editor or a judge on held-out data",
    "export": "write an editor or a LoRA as diffusers, ComfyUI and the Hub load it, with a model card",
    "report": "write scores as one self-contained HTML file and report.json",
    "data": "write toy triplets, read public preferences, split preferences",
    "doctor": "check this machine: versions, devices, disk, memory, shipped weights",
}

_USER_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError)


class Parser(argparse.ArgumentParser):
    """An argument parser with the flags that every verb takes; a verb's own subparsers are of this class too.

    The flags have no default here: `main` puts them into the namespace, so that a subparser does not reset them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        common = self.add_argument_group("common options")
        common.add_argument("-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress")
        common.add_argument(
            "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="details, and tracebacks of errors"
        )
        common.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object"
        )

    def error(self, message: str) -> NoReturn:
        """Raises ValueError, which `main` prints as one line, instead of argparse's usage dump."""
        raise ValueError(f"{message} (see: {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = argparse.Namespace(quiet=False, verbose=False, json=False)
    try:
        with _sigterm_as_interrupt():
            _run(words, args)
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, args)
    return 0


def _run(words: list[str], args: argparse.Namespace) -> None:
    # No common flag takes a value, so the first word without a dash is the verb.
    at = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    _top_parser().parse_args(words[:at], args)
    if at == len(words):
        _top_parser().print_help()
        return
    run = _parse_verb(words[at], words[at + 1 :], args)
    level = logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO
    logging.basicConfig(format="%(message)s")
    logging.getLogger("onereward").setLevel(level)
    hush_libraries()
    run(args)


def _top_parser() -> Parser:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items()]
    parser = Parser(
        prog="onereward",
        usage="onereward VERB [options]",
        description="Train a mask-guided image editor towards what people prefer.",
        epilog="\n".join(["verbs:", *lines, "", "`onereward VERB --help` explains one of them, with an example."]),
    )
    parser.add_argument("--version", action="version", version=f"onereward {__version__}")
    return parser


def verb_parser(verb: str) -> Parser:
    """The parser of one verb, from its module's HELP, EXAMPLE and add_arguments."""
    module = _module_of(verb)
    help_line: str = module.HELP
    parser = Parser(
        prog=f"onereward {verb}",
        description=help_line[:1].upper() + help_line[1:] + ".",
        epilog="example:\n" + "\n".join(f"  {line.strip()}" for line in module.EXAMPLE.strip().splitlines()),
    )
    module.add_arguments(parser)
    return parser


def _parse_verb(verb: str, words: list[str], args: argparse.Namespace) -> Callable[[argparse.Namespace], None]:
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown verb {verb!r}; {hint}the verbs are {', '.join(VERBS)}")
    verb_parser(verb).parse_args(words, args)
    run: Callable[[argparse.Namespace], None] = _module_of(verb).run
    return run


def _module_of(verb: str) -> Any:
    return import_module(f"onereward.cli.{verb.replace('-', '_')}")


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that `with` blocks close what they hold; only the main thread may set it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(error: BaseException, args: argparse.Namespace) -> int:
    if args.verbose:
        traceback.print_exception(error)
    code, message = _explain(error, getattr(args, "output", None))
    print(f"onereward: error: {' '.join(message.split())}" if code != 130 else message, file=sys.stderr)
    return code


def _explain(error: BaseException, output: object) -> tuple[int, str]:
    """The exit code for an error and what to tell the user."""
    if isinstance(error, KeyboardInterrupt):
        return 130, "onereward: interrupted; run the same command again to continue"
    if _is_disk_full(error):
        return 1, (
            f"the disk is full under {_folder_written(error, output)}; "
            "free space there or name another --output, then run the same command again to continue"
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            1,
            "out of memory; close other programs or use a smaller batch, then run the same command again to continue",
        )
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("onereward"):
        return 1, f"the library {error.name!r} is missing; `make install` installs what onereward needs"
    # By name, because importing PIL for it would slow every command down.
    if isinstance(error, _USER_ERRORS) or type(error).__name__ == "UnidentifiedImageError":
        return 2, _text_of(error)
    if isinstance(error, OSError):
        return 1, _text_of(error)
    return 1, f"unexpected {type(error).__name__}: {error}; this is a bug: run again with -v for the traceback"


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is the error or its cause; SQLite and safetensors say so in words only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in ("No space left on device", "database or disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _folder_written(error: BaseException, output: object) -> str:
    if isinstance(error, OSError) and isinstance(error.filename, str | os.PathLike):
        return str(Path(error.filename).absolute().parent)
    return str(output) if output is not None else str(Path.cwd())


def _text_of(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error) or type(error).__name__
