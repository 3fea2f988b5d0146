"""Writes docs/reference/cli.md from the parsers themselves: `make docs`. A test holds the page equal to them."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from onereward.cli.main import VERBS, verb_parser

_COMMON = {"--help", "--quiet", "--verbose", "--json"}

_HEAD = """# Command line

Written by `make docs` from the commands themselves. Every command also takes `--help`, `-q/--quiet` (no progress),
`-v/--verbose` (details, and tracebacks of errors) and `--json` (print the result as one JSON object);
`onereward --version` prints the version.

An error is one line on stderr that begins with `onereward: error:`. Exit codes: 0 done, 1 environment (disk, memory, a
missing library), 2 wrong input, 130 interrupted. An interrupted command goes on where it stopped when it is run again.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for verb in VERBS for line in _section(verb))]).rstrip() + "\n"


def _section(verb: str) -> Iterator[str]:
    yield from _command("##", f"onereward {verb}", verb_parser(verb))


def _command(level: str, name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A command's words, example and options, and below it its sub-commands'."""
    yield from (f"{level} {name}", "", parser.description or "", "")
    if parser.epilog:
        yield from ("```", *(line.strip() for line in parser.epilog.splitlines()[1:]), "```", "")
    yield from _options(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for way, child in action.choices.items():
                yield from _command(f"{level}#", f"{name} {way}", child)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    own = [
        action
        for action in parser._actions
        if not set(action.option_strings) & _COMMON and not isinstance(action, argparse._SubParsersAction)
    ]
    if own:
        yield from ("| argument | meaning | default |", "|---|---|---|", *map(_row, own), "")


def _row(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    value = " ".join(value) if isinstance(value, tuple) else value
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    takes_value = action.option_strings and action.nargs != 0
    shown = f"{names} {value or action.dest.upper()}" if takes_value else names
    if action.required and action.option_strings:
        default = "required"
    else:
        default = "" if action.default in (None, False, [], argparse.SUPPRESS) else f"`{action.default}`"
    meaning = (action.help or "") % vars(action) if "%" in (action.help or "") else action.help or ""
    return f"| `{shown.replace('|', chr(92) + '|')}` | {meaning} | {default} |"


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference())
