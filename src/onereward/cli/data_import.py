"""`onereward data import`: tables of preferences in their published schemas -> preferences (mounted by `data`)."""

import argparse
import json
from typing import TYPE_CHECKING

from onereward.readers.formats import FORMATS
from onereward.readers.pairs import Pairing
from onereward.terms import Dimension, Task, VoterKind, dimension_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onereward.readers.check import Checked

HELP = (
    "Read preferences from Parquet, JSONL, JSON or CSV files in the schema of a public set, or in any by a column map."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The format, the files, what of them is taken and what it becomes."""
    parser.add_argument("format", choices=list(FORMATS), help="the schema of the files; table is any, with --map")
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="files, or folders of them")
    parser.add_argument("--output", required=True, metavar="PREFERENCES", help="folder or URL to write")
    parser.add_argument("--images", metavar="FOLDER", help="where paths of images begin (default: at their file)")
    parser.add_argument(
        "--task", choices=list(Task), default=Task.FILL, help="what the images were made for (default: fill)"
    )
    parser.add_argument(
        "--dimension",
        action="append",
        default=[],
        metavar="DIMENSION[=VERDICT]",
        help="a dimension, and which verdict of the format becomes it (alone: the one on the whole); again for each "
        "(default: the format's own)",
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="the file's own column for a name of the format; again for each",
    )
    parser.add_argument(
        "--pairs",
        choices=list(Pairing),
        default=Pairing.ALL,
        help="of several images, pair all that differ, or the best with the worst (default: all)",
    )
    parser.add_argument("--ties", action="store_true", help="keep equal scores, as ties")
    parser.add_argument(
        "--voter-kind", choices=list(VoterKind), default=VoterKind.PERSON, help="who judged (default: person)"
    )
    parser.add_argument(
        "--max-rejected",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the rows, that may be corrupt (default: .05)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="K", help="processes that check images (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Check every row, then write the preferences."""
    from pathlib import Path

    from onereward.cli.named import named
    from onereward.readers.check import check_inputs, parts_of
    from onereward.readers.files import input_files
    from onereward.readers.inputs import ImportConfig, open_inputs
    from onereward.readers.stage import shards_of, write_preferences
    from onereward.runtime.track import track
    from onereward.runtime.workers import workers

    config = ImportConfig(
        format=args.format,
        task=Task(args.task),
        dimensions=_dimensions(args.dimension),
        columns=named(args.map, "--map", "NAME=COLUMN, such as winner=chosen"),
        pairing=Pairing(args.pairs),
        ties=args.ties,
        kind=VoterKind(args.voter_kind),
    )
    files = input_files([Path(path) for path in args.input])
    with track(len(files), "open") as advance:
        inputs = open_inputs(files, config, images=Path(args.images) if args.images else None, progress=advance)
    with workers(args.workers) as executor, track(len(parts_of(inputs)), "check") as advance:
        checked = check_inputs(inputs, args.output, max_rejected=args.max_rejected, executor=executor, progress=advance)
    with track(len(shards_of(inputs, checked)), "import") as advance:
        manifest = write_preferences(inputs, checked, args.output, advance)
    if args.json:
        print(json.dumps({"output": args.output, "preferences": manifest.rows, **_counts(checked)}))
    else:
        print(f"{manifest.rows} preferences in {args.output}; {_sentence(checked, args.output)}")


def _dimensions(texts: "Sequence[str]") -> dict[Dimension, str | None]:
    dimensions: dict[Dimension, str | None] = {}
    for text in texts:
        name, _, verdict = text.partition("=")
        if dimension_named(name) in dimensions:
            raise ValueError(f"got --dimension {name} twice: name one verdict for it")
        dimensions[dimension_named(name)] = verdict or None
    return dimensions


def _counts(checked: "Checked") -> dict[str, object]:
    return {
        "rows": checked.rows,
        "corrupt": checked.corrupt,
        "rejected": {reason.value: count for reason, count in checked.rejected.items()},
        "ties_left_out": checked.ties,
        "identical_left_out": checked.identical,
    }


def _sentence(checked: "Checked", output: str) -> str:
    from onereward.readers.check import REJECTED

    reasons = ", ".join(f"{count} {reason}" for reason, count in checked.rejected.items())
    listed = f"; {output}/{REJECTED} lists the corrupt ones" if checked.corrupt else ""
    return (
        f"{checked.rows} rows, {sum(checked.rejected.values())} rejected{f' ({reasons})' if reasons else ''}{listed}; "
        f"left out: {checked.ties} ties, {checked.identical} pairs of one image"
    )
