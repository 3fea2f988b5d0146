"""Options that name what they point to: NAME=VALUE."""


def named(text: str, option: str, expected: str) -> tuple[str, str]:
    """(NAME, VALUE) of `text`; ValueError that says what `option` is `expected` to look like."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"got {option} {text}, expected {expected}")
    return name, value
