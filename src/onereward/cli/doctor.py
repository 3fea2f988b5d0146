"""`onereward doctor`: is this machine fit to run onereward?"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onereward.doctor import Check

HELP = "check this machine: versions, devices, disk, memory, shipped weights"
EXAMPLE = "onereward doctor --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor takes no options of its own."""


def run(args: argparse.Namespace) -> None:
    """Print every check; exit 1 if something is broken."""
    from onereward.doctor import Status, examine

    checks = examine()
    broken = [check for check in checks if check.status is Status.BROKEN]
    if args.json:
        print(json.dumps({"checks": [asdict(check) for check in checks], "healthy": not broken}, indent=2))
    else:
        _print_table(checks)
    if broken:
        raise OSError("; ".join(f"{check.name}: {check.advice}" for check in broken))


def _print_table(checks: "Sequence[Check]") -> None:
    from rich.console import Console
    from rich.table import Table

    colours = {"ok": "green", "note": "yellow", "broken": "red"}
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "found", "status", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(check.name, check.value, f"[{colours[check.status]}]{check.status}[/]", check.advice)
    Console().print(table)
