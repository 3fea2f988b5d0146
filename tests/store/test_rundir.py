"""When a run folder may be begun, continued, or must be refused."""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import pytest

from onereward.store.rundir import RunDir


@dataclass(frozen=True, kw_only=True)
class Config:
    judge: str = "a"
    rate: float = 0.1
    steps: int = 4


def test_a_run_begins_when_it_is_opened_and_not_before(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.require_continuable(Config())
    assert not run.path.exists()
    with run.opened(Config()):
        assert json.loads(run.config_file.read_text()) == {"judge": "a", "rate": 0.1, "steps": 4}


def test_only_more_steps_continue_a_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.opened(Config()):
        pass
    with run.opened(Config(steps=6)):
        pass
    with pytest.raises(ValueError, match=r"steps \(there 6, now 4\)"):
        run.require_continuable(Config())
    with pytest.raises(ValueError, match=r"rate \(there 0.1, now 0.2\)"):
        run.require_continuable(Config(rate=0.2, steps=6))


def test_a_name_may_differ_where_its_content_is_recorded(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.opened(Config()):
        pass
    run.require_continuable(Config(judge="./a"), names=["judge"])
    with pytest.raises(ValueError, match="judge"):
        run.require_continuable(Config(judge="./a"))


def test_what_a_kill_left_of_the_config_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "config.json.part").write_bytes(b'{"ste')
    with RunDir(tmp_path).opened(Config()):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds no run"):
        RunDir(tmp_path / "other").require_continuable(Config())


def _try_to_open(path: Path, answer: "multiprocessing.SimpleQueue[str]") -> None:
    try:
        with RunDir(path).opened(Config()):
            answer.put("opened")
    except ValueError as error:
        answer.put(str(error))


def test_two_processes_do_not_work_in_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()

    def asked() -> str:
        other = context.Process(target=_try_to_open, args=(tmp_path / "run", answer))
        other.start()
        other.join()
        found: str = answer.get()
        return found

    with RunDir(tmp_path / "run").opened(Config()):
        assert "another process is at work" in asked()
    assert asked() == "opened"
