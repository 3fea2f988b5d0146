"""OneReward: an image editor trained towards what people prefer, through one judge for every task and dimension.

Importing the package costs nothing: torch is loaded by the first use of `load_editor` or `load_judge`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onereward.edit.editor import load_editor
    from onereward.edit.judge import load_judge
    from onereward.terms import Dimension, Task

__version__ = "0.1.0"

__all__ = ["Dimension", "Task", "__version__", "load_editor", "load_judge"]

_HOME_OF = {
    "Dimension": "onereward.terms",
    "Task": "onereward.terms",
    "load_editor": "onereward.edit.editor",
    "load_judge": "onereward.edit.judge",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onereward' has no attribute {name!r}; it exports {', '.join(__all__)}")
    from importlib import import_module

    if name.startswith("load_"):
        from onereward.runtime.track import hush_libraries

        hush_libraries()
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
