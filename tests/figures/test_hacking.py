"""The reward-hacking drill: the alarm comes before the oracle has lost what it gained, and rolling back keeps a gain.

The short form reads the curves that the last long one left beside the experiment; the long form makes them anew, with
the judge of `runs/demo` (`make demo`).
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from onereward.store.rundir import RunDir

ROOT = Path(__file__).parents[2]
DRILL = ROOT / "experiments" / "hacking_drill"
DEMO = ROOT / "runs" / "demo"

Curve = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module", params=["recorded", pytest.param("run", marks=pytest.mark.soak)])
def curves(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Curve]:
    if request.param == "recorded":
        return read(DRILL / "curves.json")
    if not RunDir(DEMO / "judge").final.exists():
        pytest.skip("needs the judge of a demo: make demo")
    output = tmp_path_factory.mktemp("drill")
    words = ["--preferences", str(DEMO / "train" / "preferences"), "--output", str(output)]
    words += ["--held-out-judge", str(RunDir(DEMO / "judge").final)]
    subprocess.run([sys.executable, str(DRILL / "run.py"), *words], cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT)})
    return read(output / "curves.json")


def read(path: Path) -> Mapping[str, Curve]:
    found: Mapping[str, Curve] = json.loads(path.read_text())
    return found


def test_the_reward_rises_while_the_oracle_falls_and_the_alarm_is_there_before(curves: Mapping[str, Curve]) -> None:
    warned = curves["warn"]
    best = max(warned, key=lambda row: row["oracle"])
    last = warned[-1]
    assert best["oracle"] > 0.005 and last["oracle"] < 0  # it gained, then lost all of that
    assert last["reward"] > best["reward"] > warned[0]["reward"]
    lost = next(row["step"] for row in warned if row["step"] > best["step"] and row["oracle"] < 0)
    alarm = next(row["step"] for row in warned if row["alarms"])
    assert alarm < lost
    assert any("held-out judge" in words for row in warned if row["step"] <= lost for words in row["alarms"])


def test_rolling_back_keeps_a_gain_that_the_other_run_loses(curves: Mapping[str, Curve]) -> None:
    back, warned = curves["roll_back"], curves["warn"]
    assert any(row["action"] == "roll_back" for row in back)
    assert back[-1]["oracle"] > 0 > warned[-1]["oracle"]
    assert back[-1]["oracle"] >= next(row["oracle"] for row in back if row["action"] == "roll_back") - 0.002
    assert back[-1]["learning_rate"] < back[0]["learning_rate"]
