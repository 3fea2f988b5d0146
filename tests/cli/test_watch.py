"""`onereward watch` on logs as `train-rl` writes them, whole, growing, cut and broken."""

import io
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from onereward.cli import watch
from onereward.cli.main import main
from onereward.runtime.track import Log
from onereward.store.rundir import RunDir
from onereward.train.progress import LogTail

LINE: dict[str, Any] = {
    "task": "fill",
    "loss": 0.2,
    "grad_norm": 0.5,
    "learning_rate": 5e-6,
    "reward": {"structure": 0.61, "aesthetics": 0.5},
    "clipped": {"structure": 0.25},
    "seconds": 3.0,
    "phases": {"reference rollout": 1.1, "judge": 0.4},
    "peak_gib": 41.2,
}
PROBE: dict[str, Any] = {
    "win_rate": {"fill": {"structure": 0.55}, "remove": {"removal_quality": 0.52}},
    "held_out": {"fill": {"structure": 0.47}},
    "gradients": {"fill": {"norm": {"structure": 0.1}, "cosine": {"structure|aesthetics": -0.3, "a|b": 0.5}}},
    "distance": {"fill": 0.03},
    "drift": {"fill": {"saturation": 0.01}},
    "alarms": ["held-out judge .62 -> .55 [bold]\x1b[31m"],
    "action": "roll_back to step 1",
}


def _run_of(folder: Path, *lines: dict[str, Any], steps: int = 10) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"steps": steps}))
    log = Log(folder / "log.jsonl")
    for step, line in enumerate(lines, start=1):
        log.write(step, **line)
    return folder


def test_once_prints_all_that_the_log_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {**LINE, "task": "text", "reward": {"structure": 0.99}}
    run = _run_of(tmp_path / "run", LINE, {**LINE, **PROBE}, {**LINE, "reward": {"structure": 0.71}}, other)
    assert main(["watch", str(run)]) == 0  # the output is no terminal, so `--once` is implied
    shown = capsys.readouterr().out
    assert "step 4 of 10, 3.0 s a step, 18 s left" in " ".join(shown.split())
    assert "reference rollout 1.1, judge 0.4" in shown and "peak gib 41.2" in shown and "rate 5e-06" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["fill", "structure", "0.71", "0.55", "0.47", "0.25", "0.1", "▁▁█"] in rows
    assert ["fill", "aesthetics", "0.50", "▅▅"] in rows
    assert ["remove", "removal", "quality", "0.52"] in rows
    assert ["fill", "0.03", "+0.010"] in rows
    assert "gradients of fill: structure and aesthetics, cosine -0.30" in shown
    assert "alarm at step 2: held-out judge .62 -> .55 [bold]�[31m (roll_back to step 1)" in " ".join(shown.split())
    assert "\x1b" not in shown


def test_json_holds_the_same_without_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run_of(tmp_path / "run", LINE, {**LINE, "reward": {"structure": math.nan}})
    assert main(["watch", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (found["step"], found["steps"], found["finished"], found["remaining"]) == (2, 10, False, 24.0)
    structure = next(cell for cell in found["cells"] if cell["dimension"] == "structure")
    assert structure["series"] == [0.61, None] and structure["clipped"] == 0.25 and structure["held_out"] is None


def test_todays_lines_and_broken_ones_are_shown_as_far_as_they_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()  # and no config
    lines: list[object] = [
        {"step": 1, "task": "fill", "loss": 0.1, "reward": {"structure": 0.5}, "seconds": 1},
        {"step": 2, "task": ["fill"], "reward": [1], "win_rate": 7, "alarms": "x", "drift": {"fill": 3}},
        {"step": 2, "task": {"fill": 1}, "phases": {"a": "b"}, "clipped": None, "action": 5, "learning_rate": [2]},
        {"step": 3, "gradients": {"fill": 2}, "seconds": "long", "held_out": {"fill": {"structure": None}}},
        {"step": "four"},
        [5],
    ]  # fmt: skip
    (run / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "{not json}\n")
    assert main(["watch", str(run), "--once"]) == 0
    shown = capsys.readouterr().out
    assert "step 3, 1.0 s a step" in shown and "0.50" in shown


def test_a_run_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path / "none"), "--once"]) == 2
    assert "none holds no run yet" in capsys.readouterr().err
    assert main(["watch", str(_run_of(tmp_path / "run"))]) == 0  # begun, no step done
    assert "step 0 of 10" in capsys.readouterr().out


def test_the_tail_follows_a_log_that_grows_is_cut_and_goes_back(tmp_path: Path) -> None:
    log, tail = Log(tmp_path / "log.jsonl"), LogTail(tmp_path / "log.jsonl")
    tail.read()
    assert tail.lines == []
    log.write(1, loss=1)
    log.write(2, loss=2)
    tail.read()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
        file.flush()
        tail.read()
        assert [line["step"] for line in tail.lines] == [1, 2]
        file.write('ss": 3}\n')
    tail.read()
    assert tail.lines[-1] == {"step": 3, "loss": 3}
    log.cut_after(1)  # as on resume
    log.write(2, loss=20)
    log.write(3, loss=30)
    log.write(4, loss=40)
    tail.read()
    assert [line["loss"] for line in tail.lines] == [1, 20, 30, 40]
    log.write(3, loss=300)  # as after a roll back that leaves the log
    tail.read()
    assert [line["loss"] for line in tail.lines] == [1, 20, 300]
    (tmp_path / "log.jsonl").unlink()
    tail.read()
    assert tail.lines == []


def test_it_waits_for_a_run_and_ends_when_the_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "run", io.StringIO()

    def meanwhile(_seconds: float) -> None:
        if not folder.exists():
            _run_of(folder, LINE, steps=1)
        elif not (folder / "final").exists():
            (folder / "final").mkdir()
            (folder / "final" / "run.json").write_text(json.dumps({"steps": 1}))
        else:
            pytest.fail("a finished run is still watched")

    monkeypatch.setattr(time, "sleep", meanwhile)
    watch._follow(RunDir(folder), Console(file=seen, force_terminal=True, width=100, height=40))
    waiting, at_work, finished = (seen.getvalue().find(words) for words in ("waiting for", "s left", "finished"))
    assert 0 < waiting < at_work < finished


def test_the_widest_row_fits_eighty_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = {**LINE, "task": "extend", "reward": {"text_alignment": 0.61}, "clipped": {"text_alignment": 0.2}}
    line |= {measure: {"extend": {"text_alignment": 0.55}} for measure in ("win_rate", "held_out")}
    line["gradients"] = {"extend": {"norm": {"text_alignment": 0.000123}}}
    assert main(["watch", str(_run_of(tmp_path / "run", *[line] * 30))]) == 0
    rows = [row.rstrip() for row in capsys.readouterr().out.splitlines()]
    (row,) = (row for row in rows if row.startswith("extend  text alignment  "))
    assert row.endswith("0.00012  " + "▅" * 8)


def test_a_sparkline_is_the_means_from_low_to_high() -> None:
    assert watch.sparkline([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, math.nan, 1.4], 8) == "▁▂▃▄▅▆█"
    assert watch.sparkline([0.0, 0.2, 1.0, 1.0], 2) == "▁█"
    assert watch.sparkline([0.5, 0.501], 8) == "▄▅"  # noise is flat
    assert watch.sparkline([math.inf], 8) == watch.sparkline([], 8) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.21, "3.2 s"), (42, "42 s"), (59.6, "1 min"), (3599, "1 h 00 min"), (90061, "1 d 1 h"), (math.nan, "?")],
)
def test_durations(seconds: float, words: str) -> None:
    assert watch._seconds(seconds) == words


def test_it_starts_without_torch_in_under_a_second(tmp_path: Path) -> None:
    run = _run_of(tmp_path / "run", LINE)
    code = "import sys; from onereward.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    words, seconds = [sys.executable, "-c", code, "watch", str(run)], []
    for _ in range(3):  # the best of them: the machine may have other work
        start = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - start)
        assert done.stdout.splitlines()[-1] == "False"
    assert min(seconds) < 1
