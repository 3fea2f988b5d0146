"""`onereward evaluate`: held-out figures of editors and judges."""

import argparse
import json

from onereward.cli import editor_options, evaluate_judge
from onereward.cli.named import named

HELP = "measure an editor or a judge on held-out data"
EXAMPLE = """
onereward evaluate editor --input triplets --editor base=toy \\
    --editor algorithm-1=run/final --scorer oracle --output scores
onereward evaluate judge --input preferences --judge untuned=toy --judge task_dimension=runs/judge/final \\
    --judge fixed_query=runs/judge/final@fixed_query --output judged
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two sub-verbs: `editor` and `judge`."""
    whats = parser.add_subparsers(dest="what", required=True, metavar="editor|judge")
    editor = whats.add_parser("editor", description="Edit triplets by several editors from the same noise, and score.")
    editor.add_argument("--input", required=True, metavar="TRIPLETS", help="folder of held-out triplets")
    editor.add_argument("--output", required=True, metavar="SCORES", help="folder to write: edits/ and scores/")
    editor.add_argument(
        "--editor",
        required=True,
        action="append",
        metavar="NAME=EDITOR",
        help="a name and toy, a folder or REPO; again for each editor, the one to compare with called base",
    )
    editor.add_argument(
        "--scorer", choices=["oracle"], default="oracle", help="oracle: the toy world's truth (default)"
    )
    editor.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the shared noise (default: 0)")
    editor.add_argument("--steps", type=int, metavar="N", help="sampler steps (default: each editor's own)")
    editor.add_argument("--workers", type=int, default=1, metavar="K", help="processes of one thread each (default: 1)")
    editor_options.add_execution(editor)
    evaluate_judge.add_arguments(whats.add_parser("judge", description=evaluate_judge.HELP))


def run(args: argparse.Namespace) -> None:
    """Run the sub-verb."""
    if args.what == "judge":
        evaluate_judge.run(args)
    else:
        _evaluate_editor(args)


def _evaluate_editor(args: argparse.Namespace) -> None:
    load = editor_options.loader_of(args)
    from pathlib import Path

    from onereward.evaluate.editor import edit_triplets, score_edits
    from onereward.runtime.track import track
    from onereward.runtime.workers import workers
    from onereward.store.shards import read_manifest
    from onereward.toy.oracle import ToyOracle
    from onereward.toy.scenes import toy_truth

    sources = named(args.editor, "--editor", "NAME=EDITOR, such as base=toy")
    triplets, output = args.input, Path(args.output)
    with workers(args.workers) as executor:
        shards = len(read_manifest(triplets).shards)
        with track(shards, "edit") as advance:
            edit_triplets(
                triplets,
                output / "edits",
                sources,
                seed=args.seed,
                steps=args.steps,
                truth=toy_truth,
                load=load,
                executor=executor,
                progress=advance,
            )
        with track(shards, "score") as advance:
            manifest = score_edits(
                triplets, output / "edits", output / "scores", ToyOracle(), executor=executor, progress=advance
            )
    if args.json:
        print(json.dumps({"output": args.output, "scores": manifest.rows}))
    else:
        print(f"{manifest.rows} scores in {output / 'scores'}; show them: onereward report --scores {args.output}")
