"""The benchmark of RL at FLUX's size in its smallest form: every part runs, and what fails leaves the others to run."""

import json
import sys
from typing import Any

import pytest
import torch

from benchmarks import rl_size
from benchmarks.rl_size import CountedPhases, Device, Report, Settings

CPU = torch.device("cpu")


def lines(text: str) -> dict[str, dict[str, Any]]:
    """What was printed, by part."""
    return {line.pop("part"): line for line in map(json.loads, text.splitlines())}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says where there is no GPU")
def test_without_a_gpu_it_says_so_loudly_and_smokes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rl_size", "--steps", "1", "--policy-steps", "9", "--updates", "1"])
    rl_size.main()
    said = capsys.readouterr()
    assert said.err.startswith("NO GPU") and "SAY NOTHING ABOUT FLUX" in said.err
    found = lines(said.out)
    ours, direct = found["ours, 1+1 blocks, 64x64"], found["direct, 1+1 blocks, 64x64"]
    assert {name for name, line in found.items() if "error" in line or "skipped" in line} == set()
    assert found["device"]["is_flux_size"] is False
    assert ours["losses"][0] == pytest.approx(direct["losses"][0], rel=1e-4)
    assert ours["jumps_from"] == direct["jumps_from"] and 6 <= ours["jumps_from"][0] <= 8
    assert found["ours, 1+1 blocks: models"]["trained"] == found["direct, 1+1 blocks: models"]["trained"] > 0
    algorithm_1 = found["ours, Algorithm 1, 64x64"]
    phases = {"reference rollout", "policy rollout", "graded step", "decode", "judge", "backward", "optimizer"}
    assert set(algorithm_1["phases"]) == phases
    assert sum(algorithm_1["phases"].values()) == pytest.approx(algorithm_1["seconds"], rel=0.3)
    assert set(algorithm_1["share of peak"]) == phases - {"optimizer"}
    assert len(found["ours, three graded steps, 64x64"]["jumps_from"]) == 3


def test_operations_by_hand_and_by_phase() -> None:
    phases, device = CountedPhases(CPU), Device(peak=1.0)

    def update() -> float:
        one = torch.ones(2, 3, requires_grad=True)
        with phases.phase("graded step"), phases.phase("decode"):  # the outermost counts
            made = one @ torch.ones(3, 5)
        with phases.phase("backward"):
            made.sum().backward()
        return 1.5

    found = rl_size.clock(update, phases, Settings(updates=2), device, True)
    assert phases.flops == {"graded step": 2 * 2 * 3 * 5, "backward": 2 * 2 * 3 * 5}
    assert found["losses"] == [1.5] * 3
    assert found["share of peak, whole"] > 0


def test_what_fails_is_a_line_and_what_comes_too_late_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> dict[str, Any]:
        raise torch.OutOfMemoryError("no room\nfor this")

    def broken() -> Any:
        raise RuntimeError("broken")

    report = Report(CPU, budget=60)
    report.part("full", full)
    with report.lasting("ours", broken) as models:
        report.part("ours, part", lambda: models.measure())
    Report(CPU, budget=-1).part("late", full)
    found = lines(capsys.readouterr().out)
    assert found["full"] == {"seconds": None, "peak_gib": None, "out of memory": "no room"}
    assert found["ours: models"]["error"] == "RuntimeError: broken"
    assert found["ours, part"]["error"] == "the models could not be made"
    assert found["late"] == {"skipped": "the budget of seconds is used up"}


def test_the_jump_is_from_the_last_third_of_the_steps() -> None:
    config = rl_size.config_of(Settings(policy_steps=28), 512)
    times = rl_size._times(28, 512).tolist()
    inside = [step for step, time in enumerate(times[:-1]) if config.jump_range[0] <= time <= config.jump_range[1]]
    assert inside == list(range(19, 28))
