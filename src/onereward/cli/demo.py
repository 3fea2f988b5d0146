"""`onereward demo`: the whole loop on the toy models."""

import argparse

HELP = "run every stage on the toy models, from scenes to a better editor and a report"
EXAMPLE = "onereward demo --output demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and how much."""
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for everything; run again to continue")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (default: 0)")
    parser.add_argument("--quick", action="store_true", help="a smoke form of about a minute: its figures say nothing")


def run(args: argparse.Namespace) -> None:
    """Run, then print the tables and the report's path."""
    from dataclasses import replace
    from pathlib import Path

    from rich.console import Console

    from onereward.demo import run_demo
    from onereward.recipes.demo import full_demo, quick_demo
    from onereward.report import print_summary

    config = replace(quick_demo() if args.quick else full_demo(), seed=args.seed)
    report, page = run_demo(Path(args.output), config)
    if args.json:
        print(report.to_json())
    else:
        print_summary(report, page, Console())
        if args.quick:
            print("This was the quick form: it shows that everything runs, its figures say nothing.")
