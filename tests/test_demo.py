import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from onereward.demo import Clock
from onereward.recipes.demo import full_demo, quick_demo
from onereward.store.images import decode_image, decode_mask
from onereward.toy.scenes import Split, make_scene, toy_truth


def test_time_adds_up_over_starts_and_stops_when_the_stage_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    with suppress(KeyboardInterrupt), Clock(path).measure("judge"):
        time.sleep(0.05)
        raise KeyboardInterrupt
    first = Clock(path).seconds["judge"]
    assert first >= 0.05
    with Clock(path).measure("judge"):
        time.sleep(0.05)
    second = Clock(path).seconds["judge"]
    assert second >= first + 0.05
    with Clock(path).measure("judge"):
        time.sleep(0.05)
    assert Clock(path).seconds == {"judge": second}


def test_the_clock_is_on_disk_while_a_stage_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGKILL loses no more than one beat."""
    monkeypatch.setattr("onereward.demo._HEARTBEAT", 0.01)
    path, stop = tmp_path / "clock.json", threading.Event()

    def stage() -> None:
        with Clock(path).measure("judge"):
            stop.wait(10)

    thread = threading.Thread(target=stage)
    thread.start()
    deadline = time.monotonic() + 5
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    state = json.loads(path.read_text())
    stop.set()
    thread.join()
    assert state["seconds"]["judge"] > 0 and state["finished"] == []


def test_the_full_form_has_the_sizes_that_its_figures_need() -> None:
    full = full_demo()
    assert full.test_per_task >= 200
    budgets = (full.budget_candidates, full.budget_judge, full.budget_rl, full.budget_evaluation)
    assert budgets == (200, 240, 200, 120)


def test_overlapping_scenes_and_empty_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        replace(quick_demo(), test_first=1)
    with pytest.raises(ValueError, match="judge_steps 0"):
        replace(quick_demo(), judge_steps=0)


def test_the_truth_differs_from_the_source_inside_the_mask_only() -> None:
    scene = make_scene(Split.TEST, 0)
    truth = toy_truth(scene.triplet())
    assert truth.size == decode_image(scene.triplet().image).size == decode_mask(scene.triplet().mask).size
    assert (scene.truth_HW3[~scene.mask_HW] == scene.source_HW3[~scene.mask_HW]).all()
