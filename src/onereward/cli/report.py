"""`onereward report`: what the stages measured, as one HTML file and report.json."""

import argparse
from pathlib import Path

from onereward.cli.named import named

HELP = "write scores as one self-contained HTML file and report.json"
EXAMPLE = """
onereward report --scores scores --answers answers \\
    --run algorithm-1=rl-1 --run algorithm-2=rl-2 --output report
"""

_EXPECTED_RUN = "NAME=RUN, such as algorithm-1=rl-1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything to report on is optional; a section without its input is left out."""
    parser.add_argument("--scores", metavar="SCORES", help="folder that `evaluate editor` wrote")
    parser.add_argument("--answers", action="append", default=[], metavar="FOLDER", help="folder of `evaluate judge`")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=RUN", help="a name and a train-rl folder")
    parser.add_argument("--stage", action="append", default=[], metavar="FOLDER", help="stage whose settings to show")
    parser.add_argument("--skips", metavar="FILE", help="what `annotate oracle --json` printed")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (default: 0)")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")


def run(args: argparse.Namespace) -> None:
    """Read, draw, write, print."""
    from rich.console import Console

    from onereward.report import ReportInputs, print_summary, read_report, write_report

    if not (args.scores or args.answers or args.run):
        raise ValueError("nothing to report on: give --scores, --answers or --run")
    scores = Path(args.scores) if args.scores else None
    inputs = ReportInputs(
        stages=tuple(map(Path, args.stage)),
        edits=scores and scores / "edits",
        scores=scores and scores / "scores",
        answers=tuple(map(Path, args.answers)),
        runs={name: Path(run) for name, run in named(args.run, "--run", _EXPECTED_RUN).items()},
        skips=Path(args.skips) if args.skips else None,
        seed=args.seed,
    )
    report = read_report(inputs)
    page = write_report(report, Path(args.output))
    if args.json:
        print(report.to_json())
    else:
        print_summary(report, page, Console())
