import json
from collections import Counter
from dataclasses import replace

import pytest

from onereward.generate.settings import GenerateConfig, config_around, config_fixed, draw_settings
from onereward.models.contract import Contract

CONFIG = GenerateConfig(
    candidates=4,
    seed=3,
    steps=(4, 8),
    guidance=(1.0, 3.0),
    true_cfg=(1.0, 2.0),
    noise_scale=(0.9, 1.1),
    prompt_drop=0.25,
)


def test_settings_depend_on_seed_triplet_and_index_alone() -> None:
    assert draw_settings(CONFIG, "a", 0) == draw_settings(replace(CONFIG, candidates=9, batch_size=1), "a", 0)
    drawn = {draw_settings(CONFIG, triplet, index).seed for triplet in "abc" for index in range(4)}
    assert len(drawn) == 12
    assert draw_settings(replace(CONFIG, seed=4), "a", 0).seed != draw_settings(CONFIG, "a", 0).seed


def test_settings_fill_their_ranges() -> None:
    drawn = [draw_settings(CONFIG, f"t{number}", 0) for number in range(400)]
    assert all(170 < count < 230 for count in Counter(settings.steps for settings in drawn).values())
    assert {settings.true_cfg for settings in drawn} == {1.0, 2.0}
    assert 1.0 <= min(s.guidance for s in drawn) < 1.05 and 2.95 < max(s.guidance for s in drawn) <= 3.0
    assert 0.9 <= min(s.noise_scale for s in drawn) < 0.905 and 1.095 < max(s.noise_scale for s in drawn) <= 1.1
    assert 70 < sum(not s.prompted for s in drawn) < 130


def test_the_json_holds_every_setting() -> None:
    settings = draw_settings(CONFIG, "a", 1)
    kept = json.loads(settings.to_json())
    assert kept.pop("paste_back") is True
    names = ("steps", "guidance", "true_cfg", "noise_scale", "prompted", "seed")
    assert kept == {name: getattr(settings, name) for name in names}


def test_ranges_around_a_contract() -> None:
    config = config_around(
        Contract(steps=10, guidance=4.0, guidance_range=(2.0, 6.0), true_cfg=4.0), candidates=4, seed=0
    )
    assert config.steps == (1, 2, 5, 10)
    assert config.guidance == (2.0, 6.0) and config.true_cfg == (1.0, 2.0, 3.5, 4.0)
    assert config_around(Contract(steps=1), candidates=2, seed=0).steps == (1,)


def test_an_editor_s_own_settings_leave_only_the_noise_to_chance() -> None:
    config = config_fixed(
        Contract(steps=10, guidance=4.0, guidance_range=(2.0, 6.0), true_cfg=2.0), candidates=1, seed=0
    )
    drawn = [draw_settings(config, f"t{number}", 0) for number in range(50)]
    assert {(s.steps, s.guidance, s.true_cfg, s.noise_scale, s.prompted) for s in drawn} == {(10, 4.0, 2.0, 1.0, True)}
    assert len({settings.seed for settings in drawn}) == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": 0}, "got --candidates 0, expected 1 or more"),
        ({"steps": ()}, r"got --steps \(\)"),
        ({"steps": (0, 4)}, r"got --steps \(0, 4\)"),
        ({"guidance": (3.0, 1.0)}, r"got --guidance 3\.0 1\.0, expected LOW HIGH"),
        ({"noise_scale": (-1.0, 1.0)}, r"got --noise-scale -1\.0"),
        ({"prompt_drop": 1.5}, r"got --prompt-drop 1\.5"),
        ({"batch_size": 0}, "got --batch-size 0"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)  # type: ignore[arg-type]  # wrong on purpose
