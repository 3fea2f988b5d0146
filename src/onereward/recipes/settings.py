"""Changes to a recipe from the command line: `--set field=value`."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def with_settings(config: Config, settings: Sequence[str], option: str = "--set") -> Config:
    """The config with each `field=value` (or `field.key=value` of a mapping) applied, of the type the field has.

    Raises ValueError, which names the `option` that the settings came with, for an unknown field (it lists the known
    ones) and for a value of another type.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        got = f"got {option} {setting!r}"
        name, _, key = path.partition(".")
        known = [field.name for field in fields(config)]
        if not equals or name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"{got}; {hint}expected field=value with a field of {', '.join(known)}")
        config = replace(config, **{name: _changed(getattr(config, name), key, text, got)})
    return config


def _changed(old: Any, key: str, text: str, got: str) -> Any:
    if isinstance(old, Mapping):
        if key not in old:
            raise ValueError(f"{got}; expected one of {', '.join(f'.{name}=' for name in old)}")
        return {name: _converted(value, text, got) if name == key else value for name, value in old.items()}
    if key:
        raise ValueError(f"{got}, but this field has no parts")
    return _converted(old, text, got)


def _converted(old: Any, text: str, got: str) -> Any:
    """`text` as a value of the type of `old`."""
    if isinstance(old, Enum):
        known = [each.value for each in type(old)]
        if text not in known:
            raise ValueError(f"{got}, expected one of {', '.join(known)}")
        return type(old)(text)
    try:
        if isinstance(old, str):
            return text
        if isinstance(old, float):
            return float(text)
        value = json.loads(text)
        if isinstance(old, tuple):
            value = tuple(value)
        if old is not None and type(value) is not type(old):
            raise TypeError
        if isinstance(old, tuple) and len(value) != len(old):
            raise TypeError
    except (ValueError, TypeError):
        raise ValueError(f"{got}, expected a value like {json.dumps(old)}") from None
    return value
