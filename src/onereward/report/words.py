"""How the report words its keys and numbers."""

from onereward.charts import signed
from onereward.metrics.accuracy import MEAN
from onereward.metrics.gsb import ALL
from onereward.terms import Dimension, Task, VoterKind

NAMES = {
    Task.FILL: "Fill",
    Task.EXTEND: "Extend",
    Task.REMOVE: "Remove",
    Task.TEXT: "Text",
    Dimension.TEXT_ALIGNMENT: "Text alignment",
    Dimension.CONSISTENCY: "Consistency",
    Dimension.STRUCTURE: "Structure",
    Dimension.AESTHETICS: "Aesthetics",
    Dimension.REMOVAL_QUALITY: "Removal quality",
    ALL: "All dimensions",
    MEAN: "Mean of nine cells",
    "untuned": "Untuned",
    "pair": "Tuned, pairs only",
    "task": "+ task",
    "task_dimension": "+ task + dimension",
    "fixed_query": "Fixed query",
    "base": "Base",
    "algorithm-1": "Algorithm 1",
    "algorithm-2": "Algorithm 2",
    "hole": "Source with hole",
    "reward": "reward",
    "win_rate": "win rate against the frozen start",
    VoterKind.PERSON: "People",
    VoterKind.ORACLE: "Oracles",
    VoterKind.MODEL: "Models",
    "": "Voters",
}

_BREAKS = {word.replace("|", ""): word.replace("|", "\u00ad") for word in ("Consis|tency", "Struc|ture", "Aesthe|tics")}


def name(key: str) -> str:
    """What people read for a key of the data; an unknown key (a user's editor) stands for itself."""
    return NAMES.get(key, key)


def narrow(key: str) -> str:
    """`name` for the head of a narrow column, with soft hyphens where a long word may break."""
    return _BREAKS.get(name(key), name(key))


def points(difference: float) -> str:
    """A difference of shares in percentage points."""
    return signed(100 * difference, 1)


def chance(p: float) -> str:
    """A p-value."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.0f} s"


def cell_name(task: str, dimension: str) -> str:
    return name(task) if task == MEAN else f"{name(task)}: {name(dimension).lower()}"
