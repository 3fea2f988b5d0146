"""What a run of RL takes, before it is launched: memory and seconds of a step, with the arithmetic."""

from onereward.plan.cards import card_of
from onereward.plan.plan import Advice, Line, PhaseCost, Plan, plan
from onereward.plan.rehearsal import Setup
from onereward.plan.shapes import ModelShapes, editor_shapes, judge_shapes

__all__ = [
    "Advice",
    "Line",
    "ModelShapes",
    "PhaseCost",
    "Plan",
    "Setup",
    "card_of",
    "editor_shapes",
    "judge_shapes",
    "plan",
]
