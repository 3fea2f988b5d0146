"""`onereward evaluate judge`: held-out preferences -> accuracy by task and dimension (mounted by `evaluate`)."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli.named import named
from onereward.query import Variant

if TYPE_CHECKING:
    from onereward.metrics.judge_table import JudgeTable

HELP = "ask judges about held-out preferences, both orders, and count the right answers (Tables 1 and 4)"

_EXPECTED = "NAME=JUDGE or NAME=JUDGE@VARIANT, such as fixed_query=runs/judge/final@fixed_query"
_ALONE = re.compile(r"(?![\w.+-]+=)")  # what does not begin with a name
_NAME = re.compile(r"[\w+-][\w.+-]*")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the tables: its name, the judge, and how it is asked (None: as in its training)."""

    name: str | None
    judge: str
    variant: Variant | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The preferences, the rows of the table, and what they are computed with."""
    parser.add_argument("--input", required=True, metavar="PREFERENCES", help="folder of held-out preferences")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="folder to write: answers/NAME/, table.json and table.html"
    )
    parser.add_argument(
        "--judge",
        required=True,
        action="append",
        metavar="NAME=JUDGE[@VARIANT]",
        help="a row of the table: its name, and toy, a folder or a Hub repository, asked as VARIANT (pair, task, "
        "task_dimension, fixed_query; default: as in its training); again for each row, each is compared with the row "
        "task_dimension, else with the last; one JUDGE alone needs no name and has its variant's",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="K", help="processes of one thread each (default: 1)")
    parser.add_argument(
        "--batch", type=int, default=32, metavar="N", help="preferences asked about at once (default: %(default)s)"
    )
    parser.add_argument("--quantize", choices=["int8", "nf4"], help="the judges' weights in 8 or 4 bits")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the bootstrap (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Ask, write, print the table."""
    rows = rows_of(args.judge)
    if args.batch < 1:
        raise ValueError(f"got --batch {args.batch}, expected 1 or more")
    from onereward.evaluate.judge import evaluate_judge, variant_of
    from onereward.report import ANSWERS, ReportInputs, read_report, write_table
    from onereward.runtime.track import track
    from onereward.runtime.workers import workers
    from onereward.store.shards import read_manifest

    output, preferences = Path(args.output), read_manifest(args.input)
    if not preferences.rows:
        raise ValueError(f"{args.input} holds no preference: collect votes first (onereward annotate)")
    folders = []
    with workers(args.workers) as executor, track(len(rows) * len(preferences.shards), "evaluate judge") as advance:
        for row in rows:
            name = row.name or row.variant or variant_of(row.judge, args.quantize)
            folders.append(output / ANSWERS / name)
            evaluate_judge(
                args.input,
                folders[-1],
                row.judge,
                row.variant,
                name,
                batch=args.batch,
                quantize=args.quantize,
                executor=executor,
                progress=advance,
            )
    report = read_report(ReportInputs(answers=tuple(folders), seed=args.seed))
    if not report.judge:
        raise ValueError(f"{args.input} holds nothing but ties, of which no answer is right or wrong")
    page = write_table(report, output)
    print(report.table.to_json() if args.json else f"{_text(report.table)}\nTables and charts: {page}")


def rows_of(texts: Sequence[str]) -> list[Row]:
    """The rows that --judge names; ValueError for a name or a variant that cannot be, and for a name given twice."""
    if len(texts) == 1 and _ALONE.match(texts[0]):
        return [_row(None, texts[0])]
    return [_row(name, judge) for name, judge in named(texts, "--judge", _EXPECTED).items()]


def _row(name: str | None, text: str) -> Row:
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(f"got the name {name} in --judge, expected letters, digits, '-', '_', '.' and '+'")
    judge, at, variant = text.rpartition("@")
    if not at or "/" in variant or Path(text).exists():
        return Row(name=name, judge=text, variant=None)
    if not judge or variant not in list(Variant):
        raise ValueError(f"got --judge ...{text}, expected JUDGE@VARIANT with one of {', '.join(Variant)}")
    return Row(name=name, judge=judge, variant=Variant(variant))


def _text(table: "JudgeTable") -> str:
    """The main figures as lines; each row's p is against the row that it is compared with."""
    from onereward.metrics.gsb import ALL

    chances = {(row.variant, row.task, row.dimension): row for row in table.comparisons}
    head = (
        f"{'task':<8}{'dimension':<17}{'judge':<16}{'n':>6}{'accuracy':>10}  {'95 % interval':<15}{'consistent':>10}"
        f"{'ECE':>7}{'Brier':>7}{'outside':>9}  p (Holm)"
    )
    lines = []
    for row in table.judge:
        compared = chances.get((row.variant, row.task, row.dimension))
        outside = "-" if row.outside is None else f"{row.outside:.3f}"
        lines.append(
            f"{row.task:<8}{row.dimension:<17}{row.variant:<16}{row.n:>6}{row.accuracy:>10.3f}  "
            f"{f'{row.low:.3f}-{row.high:.3f}':<15}{row.flips:>10.3f}{row.ece:>7.3f}{row.brier:>7.3f}{outside:>9}"
            + (f"  {compared.p_holm:.3g}" if compared else "")
        )
    lines += [
        f"{row.task:<8}{row.dimension:<17}{f'other {row.kind}s':<16}{row.n:>6}{row.accuracy:>10.3f}  "
        f"{row.low:.3f}-{row.high:.3f}"
        for row in table.ceiling
        if row.accuracy is not None
    ]
    lines += [
        f"{row.variant} against {row.against} on all {row.n} pairs: {row.difference:+.3f} "
        f"({row.low:+.3f} to {row.high:+.3f}), p {row.p:.3g}"
        for row in table.comparisons
        if row.task == ALL
    ]
    return "\n".join([head, *lines])
