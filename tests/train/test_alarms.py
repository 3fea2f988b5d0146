"""The rules on made-up probes, their figures worked by hand."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from onereward.terms import Dimension, Task
from onereward.train.alarms import Action, Alarm, AlarmConfig, ProbeFigures, Verdict, Watch

QUIET = Verdict(alarms=(), action=None)


def _config(action: Action = Action.WARN, **changed: Any) -> AlarmConfig:
    values: dict[str, Any] = {
        "alarm_actions": dict.fromkeys(Alarm, action),
        "alarm_fall": 0.05,
        "alarm_patience": 2,
        "alarm_floor": 0.35,
        "alarm_drift": {"saturation": 0.1},
    }
    return AlarmConfig(**{**values, **changed})


def _figures(
    step: int,
    reward: float,
    held_out: float | None,
    *,
    saturation: float = 0.0,
    others: Mapping[str, float] | None = None,
) -> ProbeFigures:
    return ProbeFigures(
        step=step,
        reward={Task.FILL: {Dimension.STRUCTURE: reward - 0.125, Dimension.AESTHETICS: reward + 0.125}},
        held_out=None if held_out is None else {Task.FILL: {Dimension.STRUCTURE: held_out}},
        drift={Task.FILL: {"saturation": saturation, "contrast": 0.9}},  # contrast has no bound
        others=others or {},
    )


def test_a_held_out_judge_that_falls_while_the_reward_rises_is_hacking() -> None:
    watch = Watch(_config())
    assert watch.note(_figures(20, 0.55, 0.58)) == QUIET
    assert watch.note(_figures(40, 0.61, 0.62)) == QUIET
    assert watch.note(_figures(50, 0.66, 0.58)) == QUIET  # .04 is within the bound
    assert watch.note(_figures(60, 0.70, 0.56)) == QUIET  # .06, for the first time
    fired = watch.note(_figures(80, 0.74, 0.55))
    assert fired.alarms == ("held-out judge .62 -> .55 since step 40 while reward rose .61 -> .74",)
    assert fired.action is Action.WARN and watch.fired == 1 and watch.rate_scale == 1
    assert watch.note(_figures(100, 0.75, 0.55)) == QUIET  # it lasts: told again after as many probes
    assert len(watch.note(_figures(120, 0.75, 0.55)).alarms) == 1


def test_the_fall_must_last_and_the_reward_must_not_fall_too() -> None:
    watch = Watch(_config())
    for step, reward, held_out in (
        (20, 0.6, 0.6),
        (40, 0.7, 0.5),
        (60, 0.7, 0.59),  # it recovers
        (80, 0.7, 0.5),
        (100, 0.55, 0.5),  # both judges like it less: worse, not hacked
        (120, 0.7, 0.5),
    ):
        assert watch.note(_figures(step, reward, held_out)) == QUIET
    assert watch.note(_figures(140, 0.6, 0.5)).alarms  # the reward of step 20 is no fall


def test_below_the_start_from_the_beginning_is_hacking_too() -> None:
    watch = Watch(_config(alarm_patience=1))
    assert watch.note(_figures(20, 0.6, 0.44)).alarms == (
        "held-out judge .50 -> .44 since step 0 while reward rose .50 -> .60",
    )


def test_without_a_held_out_judge_that_rule_is_off() -> None:
    watch = Watch(_config(alarm_patience=1))
    assert [watch.note(_figures(step, reward, None)) for step, reward in ((20, 0.8), (40, 0.6))] == [QUIET, QUIET]
    assert watch.best_step == 20


def test_a_dimension_below_the_floor_is_lost() -> None:
    watch = Watch(_config())
    fired = watch.note(_figures(20, 0.45, None))
    assert fired.alarms == ("reward of fill, structure lost against the start: .33, below .35",)
    assert watch.note(_figures(40, 0.45, None)) == QUIET and watch.note(_figures(60, 0.45, None)).alarms
    assert watch.note(_figures(80, 0.6, None)) == QUIET
    assert watch.note(_figures(100, 0.45, None)).alarms  # anew
    assert watch.best_step == 80
    assert "held-out judge of fill, structure lost" in Watch(_config()).note(_figures(20, 0.5, 0.2)).alarms[0]


def test_drift_either_way_beyond_its_bound() -> None:
    watch = Watch(_config())
    assert watch.note(_figures(20, 0.6, None, saturation=-0.1)) == QUIET
    assert watch.note(_figures(40, 0.6, None, saturation=-0.125)).alarms == (
        "fill: saturation drifted by -.12, beyond .10",
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_told_at_once_and_of_everything(value: float) -> None:
    watch = Watch(_config(Action.STOP))
    fired = watch.note(_figures(20, 0.6, value, others={"loss": value, "grad_norm": 0.1}))
    assert fired.alarms == ("not a finite number: loss, held-out judge of fill, structure",)
    assert fired.action is Action.STOP and watch.best_step == 0
    assert watch.note(_figures(40, 0.6, 0.6)) == QUIET and watch.best_step == 40


def test_the_best_probe_is_that_of_the_held_out_judge_where_all_was_well() -> None:
    watch = Watch(_config())
    for step, reward, held_out, saturation in ((20, 0.6, 0.6, 0), (40, 0.8, 0.58, 0), (60, 0.8, 0.7, 0.2)):
        watch.note(_figures(step, reward, held_out, saturation=saturation))
    assert watch.best_step == 20 and watch.best == 0.6
    worse = Watch(_config())
    worse.note(_figures(20, 0.5, 0.48))
    assert worse.best_step == 0  # the start


def test_each_lowering_halves_the_rate_and_a_roll_back_begins_anew() -> None:
    watch = Watch(_config(Action.ROLL_BACK))
    watch.note(_figures(20, 0.6, 0.6))
    watch.note(_figures(40, 0.6, 0.7, saturation=0.2))  # drifts: rolled back, and its .7 is nothing to fall from
    assert watch.rate_scale == 0.5
    assert watch.note(_figures(40, 0.7, 0.56)) == QUIET
    assert watch.note(_figures(60, 0.7, 0.56)) == QUIET  # .04 below step 20's
    assert watch.note(_figures(80, 0.7, 0.54)) == QUIET
    assert watch.note(_figures(100, 0.7, 0.54)).action is Action.ROLL_BACK
    assert watch.rate_scale == 0.25 and watch.best_step == 20
    for step in (110, 120):  # each is the first since the roll back before it
        assert watch.note(_figures(step, 0.7, 0.6, saturation=0.2)).action is Action.ROLL_BACK
    lowered = Watch(_config(Action.LOWER_RATE))
    lowered.note(_figures(20, 0.6, None, saturation=0.2))
    assert lowered.rate_scale == 0.5


def test_of_several_actions_the_gravest_is_taken() -> None:
    for gravest, other in pairwise((Action.STOP, Action.ROLL_BACK, Action.LOWER_RATE, Action.WARN)):
        actions = {**dict.fromkeys(Alarm, Action.WARN), Alarm.COLLAPSED: gravest, Alarm.DRIFTED: other}
        fired = Watch(_config(alarm_actions=actions)).note(_figures(20, 0.4, None, saturation=0.2))
        assert len(fired.alarms) == 2 and fired.action is gravest


def test_a_resumed_watch_goes_on_as_if_never_stopped() -> None:
    probes = [
        _figures(20, 0.55, 0.6), _figures(40, 0.6, 0.5, saturation=0.2), _figures(60, 0.7, 0.5), _figures(80, 0.7, 0.5)
    ]  # fmt: skip
    whole, first, second = (Watch(_config(Action.LOWER_RATE)) for _ in range(3))
    verdicts = [whole.note(probe) for probe in probes]
    assert [first.note(probe) for probe in probes[:2]] == verdicts[:2]
    state = first.state_dict()
    first.note(probes[2])  # must not reach into the kept state
    second.load_state_dict(state)
    assert [second.note(probe) for probe in probes[2:]] == verdicts[2:]
    assert any(verdict.alarms for verdict in verdicts[2:])
    assert second.state_dict() == whole.state_dict()


def test_configs_are_checked() -> None:
    with pytest.raises(ValueError, match="expected one for each of hacked, collapsed, drifted, not_finite"):
        _config(alarm_actions={Alarm.HACKED: Action.WARN})
    with pytest.raises(ValueError, match=r"got alarm_drift 'sharpness'.*saturation, contrast, high_frequencies"):
        _config(alarm_drift={"sharpness": 0.1})
    with pytest.raises(ValueError, match="alarm_patience 0"):
        _config(alarm_patience=0)
