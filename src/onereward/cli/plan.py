"""`onereward plan`: what a step of `train-rl` takes, before it is launched."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onereward.cli import train_rl

if TYPE_CHECKING:
    from onereward.plan import ModelShapes, PhaseCost, Plan
    from onereward.train.rl_config import TrainRLConfig

HELP = "memory and seconds of a step of train-rl before it is launched, with the arithmetic"
EXAMPLE = """
onereward plan flux_fill --gpu 80GB --world 8 --sharded
onereward plan flux_fill_lora --gpu 80GB --set pixels=1048576 --json
"""

_JUDGE = "Qwen/Qwen2.5-VL-7B-Instruct"
_GIB, _MIB = 2**30, 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run as `train-rl` takes it, and the cards."""
    train_rl.add_config(parser)
    parser.add_argument(
        "--gpu", required=True, metavar="CARD", help="memory such as 80GB, cpu, or h100, h200, a100, l40s, 4090"
    )
    parser.add_argument("--world", type=int, default=1, metavar="N", help="cards, one process on each (default: 1)")
    parser.add_argument("--sharded", action="store_true", help="the weights are split over the cards (FSDP2)")
    parser.add_argument("--offload-idle", action="store_true", help="what is idle lies in the CPU's memory")


def run(args: argparse.Namespace) -> None:
    """Rehearse a step on shapes, print what it takes."""
    from dataclasses import fields

    config = train_rl.config_of(args)
    if args.world < 1:
        raise ValueError(f"got --world {args.world}, expected 1 or more")
    from onereward.plan import Setup, card_of, plan

    card, assumed = card_of(args.gpu)
    models, replaced = _models(config)
    laid_out = {field.name: getattr(config, field.name) for field in fields(Setup) if hasattr(config, field.name)}
    sharded = args.sharded and args.world > 1
    setup = Setup(**laid_out, world=args.world, sharded=sharded, offload_idle=args.offload_idle)
    found = plan(config, setup, models, card, notes=[note for note in (assumed, replaced) if note])
    print(json.dumps(_as_json(found), indent=1) if args.json else "\n".join(_as_text(args.recipe, found)))


def _models(config: "TrainRLConfig") -> "tuple[ModelShapes, str]":
    """The models' sizes; a recipe's judge that has not been trained yet is taken for the one it will start from."""
    from onereward.plan import ModelShapes, editor_shapes, judge_shapes
    from onereward.recipes.flux_fill import flux_fill

    judge, note = config.judge, ""
    if judge == flux_fill().judge and not Path(judge).exists():
        judge, note = _JUDGE, f"there is no {config.judge} yet: taken for {_JUDGE}"
    held_out = None if config.held_out_judge is None else judge_shapes(config.held_out_judge)
    return ModelShapes(editor=editor_shapes(config.editor), judge=judge_shapes(judge), held_out=held_out), note


def _as_json(plan: "Plan") -> dict[str, Any]:
    from onereward.store.rundir import to_json_values

    return {**to_json_values(plan), "peak": plan.peak, "fits": plan.fits, "seconds": plan.seconds}


def _as_text(recipe: str, plan: "Plan") -> Iterator[str]:
    card, share = plan.card, plan.shares
    flops = sum(phase.flops for phase in plan.phases)
    unit, prefix = (1e12, "T") if flops >= 1e12 else (1e9, "G")
    yield f"{recipe} on {plan.world} x {card.name}, images of {plan.side} x {plan.side} pixels"
    yield ""
    yield f"Memory of a process at its peak ({plan.peak_phase}):"
    for line in plan.lines:
        yield f"  {line.what:<44}{_times(line.count, line.bytes_each):>32}{_gib(line.total):>14}"
    yield f"  {'live tensors':<76}{_gib(plan.peak):>14}"
    yield f"  {f'reserve: {plan.reserve_for}':<76}{_gib(plan.reserve):>14}"
    spare = card.memory - plan.peak - plan.reserve
    verdict = f"fits, {_gib(spare)} to spare" if plan.fits else f"DOES NOT FIT, {_gib(-spare)} too much"
    yield f"  {verdict + ' of':<76}{_gib(card.memory):>14}"
    yield from _advice(plan)
    yield ""
    yield f"A step of a process; shares of the card's peak are {share.source}:"
    yield f"  {'phase':<20}{f'{prefix}FLOP':<48}{'share':>6}{'seconds':>13}{'peak':>14}"
    for phase in plan.phases:
        if phase.parts:
            how = f"{_work(phase, unit):<48}{share.of(phase.name):>6.2f}"
            yield f"  {phase.name:<20}{how}{_seconds(phase.seconds):>13}{_gib(phase.peak):>14}"
    yield f"  {'all':<20}{f'{flops / unit:,.1f}':<54}{_seconds(plan.seconds):>13}"
    if card.is_timed:
        speeds = f"{card.bfloat16 / 1e12:g} TFLOP/s in bfloat16, {card.float32 / 1e12:g} in float32"
        yield f"  seconds = operations / (share x speed); {card.name}: {speeds}, {card.bandwidth / 1e12:g} TB/s"
    yield ""
    yield from (f"note: {note}" for note in plan.notes)


def _advice(plan: "Plan") -> Iterator[str]:
    advice = plan.advice
    if advice is None:
        return
    settings = " ".join(advice.settings)
    if advice.fits:
        yield f"  It would fit with {settings}: {_gib(advice.peak)} of live tensors."
    else:
        tried = f"with {settings} live tensors still take {_gib(advice.peak)}" if settings else "nothing is left to try"
        yield f"  No setting that was tried makes it fit: {tried}. Split it over more cards, or take fewer pixels."


def _work(phase: "PhaseCost", unit: float) -> str:
    """What the phase does, as a sum."""
    terms = " + ".join(f"{part.times:,.4g} x {part.flops / unit:,.4g}" for part in phase.parts)
    return f"{terms} = {phase.flops / unit:,.1f}" if phase.flops else "bound by memory"


def _times(count: int, bytes_each: float) -> str:
    if bytes_each < 64:
        return f"{count:,} x {bytes_each:.3g} bytes"
    return f"{count} x {bytes_each / _MIB:,.1f} MiB"


def _gib(count: float) -> str:
    return f"{count / _GIB:,.2f} GiB" if abs(count) >= _GIB / 10 else f"{count / _MIB:,.2f} MiB"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.3g} s"
