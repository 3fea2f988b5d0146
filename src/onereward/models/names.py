"""Where a model's name leads: `toy` to the weights that ship with the package, anything else to a folder or the Hub."""

from importlib.resources import files
from typing import Literal

Kind = Literal["editor", "judge", "clip"]


def resolve(name: str, kind: Kind) -> str:
    """A local folder or a Hub repository id for `name`; `toy` is the shipped `onereward/weights/toy-<kind>`."""
    return str(files("onereward") / "weights" / f"toy-{kind}") if name == "toy" else name
