"""`onereward score`: the judge's answers about two pictures, a table of pairs, or whoever asks over HTTP."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.cli.editor_options import use_local_cache_only
from onereward.cli.serve import add_address, add_limits, missing_extra, token_of
from onereward.terms import Dimension, Task

if TYPE_CHECKING:
    from onereward.edit.judge import ImageJudge, Scores

HELP = "ask the judge which of two pictures is better: one pair, a table of them, or over HTTP"
EXAMPLE = """
onereward score --judge toy --first a.png --second b.png --task fill --prompt "a red star"
onereward score --judge toy --input pairs.jsonl --output scores
onereward score --judge toy --serve --port 8001
curl -F first=@a.png -F second=@b.png -F task=fill -F dimension=structure http://127.0.0.1:8001/v1/scores
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Judge, and a pair, a table or an address."""
    parser.add_argument("--judge", required=True, metavar="NAME", help="toy, a folder or a Hub repository")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps (default: the GPU if there is one)")
    parser.add_argument("--quantize", choices=["int8", "nf4"], help="the judge's weights in 8 or 4 bits")
    parser.add_argument("--offline", action="store_true", help="take models from the local cache, never ask the Hub")
    pair = parser.add_argument_group("one pair (beside --input: defaults for what a row leaves out)")
    pair.add_argument("--first", metavar="PICTURE", help="is it better")
    pair.add_argument("--second", metavar="PICTURE", help="than this one?")
    pair.add_argument("--task", choices=[task.value for task in Task])
    pair.add_argument(
        "--dimension",
        nargs="+",
        choices=[dimension.value for dimension in Dimension],
        default=[],
        help="(default: all that apply)",
    )
    pair.add_argument("--prompt", metavar="TEXT", default="", help="what was to be shown; text_alignment needs it")
    many = parser.add_argument_group("many pairs")
    many.add_argument(
        "--input",
        metavar="PAIRS",
        help=".jsonl, .csv or .parquet with a row a pair: first, second (paths from its folder, or files in cells), "
        "task, dimension (one, several, or none for all that apply), prompt, id",
    )
    many.add_argument("--output", metavar="SCORES", help="folder to write: shards, and failed.jsonl")
    many.add_argument(
        "--batch", type=int, default=16, metavar="N", help="pairs asked about at once (default: %(default)s)"
    )
    served = parser.add_argument_group("over HTTP")
    served.add_argument("--serve", action="store_true", help="answer pairs over HTTP")
    add_address(served)
    add_limits(served, picture="picture", waiting="pairs", queue=128)
    served.add_argument(
        "--wait",
        type=float,
        default=5,
        metavar="MS",
        help="that a pair waits for others to share its batch (default: 5)",
    )
    served.add_argument(
        "--deterministic", action="store_true", help="each pair alone and on one thread: no bit hangs on other requests"
    )
    served.add_argument("--threads", type=int, metavar="N", help="that compute, on a CPU (default: all)")


def run(args: argparse.Namespace) -> None:
    """Check what was given, load the judge, ask it."""
    use_local_cache_only(args)
    asked = [args.first is not None or args.second is not None, args.input is not None, args.serve]
    if sum(asked) != 1:
        raise ValueError("give --first and --second, or --input, or --serve: one of the three")
    if args.serve:
        _serve(args)
    elif args.input is not None:
        _score_table(args)
    else:
        _score_pair(args)


def _judge(args: argparse.Namespace) -> "ImageJudge":
    from onereward.edit.judge import load_judge
    from onereward.models.device import device_named

    device = None if args.device is None else device_named(args.device)
    return load_judge(args.judge, device=device, quantize=args.quantize)


def _require(args: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name}" for name in names if getattr(args, name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given (see: onereward score --help)")


def _score_pair(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from onereward.edit.judge import asked_dimensions
    from onereward.edit.pictures import read_picture

    _require(args, "first", "second", "task")
    dimensions = asked_dimensions(Task(args.task), args.prompt, args.dimension)
    first, second = (read_picture(Path(path), path) for path in (args.first, args.second))
    judge = _judge(args)
    scores = judge.scores(first, second, args.task, args.prompt, dimensions)
    said = {"scores": {dimension: asdict(score) for dimension, score in scores.items()}, "judge": judge.fingerprint}
    print(json.dumps(said) if args.json else f"{_table(scores)}\njudge {args.judge}, sha256 {judge.fingerprint}")


def _table(scores: "Scores") -> str:
    head = f"{'dimension':<18}{'P(first better)':>15}{'log-odds':>10}{'swapped':>10}{'outside':>10}"
    lines = [
        f"{dimension:<18}{score.probability:>15.3f}{score.log_odds_forward:>10.3f}{score.log_odds_backward:>10.3f}"
        f"{score.outside_mass:>10.4f}"
        for dimension, score in scores.items()
    ]
    return "\n".join([head, *lines])


def _score_table(args: argparse.Namespace) -> None:
    """Exit code 2, with everything else scored, if a pair has no score."""
    from dataclasses import asdict

    from onereward.runtime.track import track
    from onereward.score.pairs import Defaults, survey
    from onereward.score.stage import FAILED, SHARD, score_pairs
    from onereward.store.shards import shard_ranges

    _require(args, "output")
    if "://" in args.output:
        raise ValueError(f"got --output {args.output}, expected a local folder")
    output = Path(args.output)
    task = None if args.task is None else Task(args.task)
    table = survey(Path(args.input), Defaults(task=task, dimensions=tuple(args.dimension), prompt=args.prompt))
    judge = _judge(args)
    with track(len(shard_ranges(table.pairs, SHARD)), "score") as advance:
        done = score_pairs(table, output, judge, batch=args.batch, progress=advance)
    said = {"output": str(output), **asdict(done)}
    scored = f"{done.pairs - done.failed} of {done.pairs} pairs scored in {output} ({done.scores} scores)"
    print(json.dumps(said) if args.json else f"{scored}\njudge {args.judge}, sha256 {done.judge}")
    if done.failed:
        raise ValueError(
            f"{done.failed} of {done.pairs} pairs have no score, {output / FAILED} says why: put them right, and score "
            "them into another folder"
        )


def _serve(args: argparse.Namespace) -> None:
    try:
        from onereward.serve.scorer import create_scorer
        from onereward.web.server import bound, serve, url_of
    except ModuleNotFoundError as error:
        raise missing_extra(error, "web") from error
    from onereward.serve.limits import Taken
    from onereward.serve.scoring import Asking, ScoreQueue

    token = token_of(args)
    limits = Taken(upload=int(args.max_upload * 2**20), pixels=args.max_pixels, waiting=args.queue)
    asking = Asking(batch=args.batch, wait_ms=args.wait, deterministic=args.deterministic, threads=args.threads)
    with bound(args.host, args.port) as listener:
        judge = _judge(args)
        with ScoreQueue(judge, limits=limits, asking=asking) as queue:
            app = create_scorer(queue, args.judge, token=token)
            listener.listen()
            url = url_of(listener)
            print(
                json.dumps({"url": url, "judge": judge.fingerprint})
                if args.json
                else f"judge {args.judge}, sha256 {judge.fingerprint}\nlistening on {url}",
                flush=True,
            )
            serve(app, listener, hang_up=queue.hang_up)
