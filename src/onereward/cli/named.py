"""Options that name what they point to: NAME=VALUE."""

from collections.abc import Sequence


def named(texts: Sequence[str], option: str, expected: str) -> dict[str, str]:
    """NAME -> VALUE of each text; ValueError for a name given twice, and where a text is not what is `expected`."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"got {option} {text}, expected {expected}")
        if name in values:
            raise ValueError(f"got {option} {name}= twice: give each its own name")
        values[name] = value
    return values
