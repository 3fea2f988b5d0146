"""`--set field=value`: of the field's type, or an error with the way out."""

from dataclasses import replace

import pytest

from onereward.recipes.settings import with_settings
from onereward.recipes.toy import toy
from onereward.terms import Task
from onereward.train.rl import Release

CONFIG = replace(toy(), bound=0.6, steps=150, jump_range=(0.3, 0.8))


def test_values_take_the_type_of_their_field() -> None:
    settings = ["bound=1", "steps=7", "jump_range=[0.2, 0.9]", "release=policy", "both_orders=true", "judge=a/b"]
    config = with_settings(toy(), [*settings, "task_mix.remove=0.5"])
    assert (config.bound, config.steps, config.jump_range) == (1.0, 7, (0.2, 0.9))
    assert (config.release, config.both_orders, config.judge) == (Release.POLICY, True, "a/b")
    assert config.task_mix == {**toy().task_mix, Task.REMOVE: 0.5}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("bond=1", "did you mean 'bound'"),
        ("bound", "expected field=value"),
        ("bound=high", "expected a value like 0.6"),
        ("steps=1.5", "expected a value like 150"),
        ("jump_range=[0.2]", r"expected a value like \[0.3, 0.8\]"),
        ("task_mix.paint=1", "expected one of .fill="),
        ("bound.low=1", "has no parts"),
        ("release=best", "expected one of policy, average"),
    ],
)
def test_errors_say_the_way_out(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_settings(CONFIG, [setting])
