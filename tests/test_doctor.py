"""The doctor finds what is broken and says what to do about it."""

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from onereward import doctor
from onereward.cli.main import main
from onereward.doctor import Check, Status


def test_pillow_must_be_twelve() -> None:
    assert doctor.check_pillow("12.3.0").status is Status.OK
    assert doctor.check_pillow("13.0.0").advice == "pip install 'pillow>=12,<13'"
    assert doctor.check_pillow("11.3.0").status is Status.BROKEN


def test_a_missing_library_is_broken() -> None:
    assert doctor.check_library("numpy").status is Status.OK
    assert doctor.check_library("no-such-library").status is Status.BROKEN


@pytest.mark.parametrize(
    ("source", "status"), [("raise RuntimeError('operator torchvision::nms')", Status.BROKEN), ("", Status.NOTE)]
)
def test_torchvision_is_tried_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, status: Status
) -> None:
    assert doctor.check_torchvision().status is Status.OK
    (tmp_path / "torchvision.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.check_torchvision().status is status


def test_a_nearly_full_disk_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "not" / "made" / "yet"
    assert str(folder) in doctor.check_disk("disk", folder).value
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free=10**8 if Path(path) == tmp_path else 10**12))
    assert doctor.check_disk("disk", folder).status is Status.BROKEN
    assert not folder.exists()


def test_weights_need_headers_that_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "files", lambda package: tmp_path)
    part = tmp_path / "weights" / "toy-editor" / "vae" / "model.safetensors"
    assert doctor.check_weights("toy-editor").value == "missing"
    part.parent.mkdir(parents=True)
    import numpy

    save_file({"weight": numpy.zeros(250_000, numpy.float32)}, part)
    assert doctor.check_weights("toy-editor").value == "1 files, 1.0 MB"
    os.truncate(part, 500_000)
    assert doctor.check_weights("toy-editor").status is Status.BROKEN


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_exit_code_says_whether_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], json_flag: list[str]
) -> None:
    good = Check(name="left", value="1")
    bad = Check(name="right", value="2", status=Status.BROKEN, advice="mend it")
    monkeypatch.setattr(doctor, "examine", lambda: [good])
    assert main(["doctor", *json_flag]) == 0
    monkeypatch.setattr(doctor, "examine", lambda: [good, bad])
    capsys.readouterr()
    assert main(["doctor", *json_flag]) == 1
    captured = capsys.readouterr()
    assert captured.err == "onereward: error: right: mend it\n"
    if json_flag:
        told = json.loads(captured.out)
        assert told["healthy"] is False
        assert told["checks"][1] == {"name": "right", "value": "2", "status": "broken", "advice": "mend it"}
    else:
        assert "mend it" in captured.out


def test_examine_covers_this_machine() -> None:
    names = [check.name for check in doctor.examine()]
    assert {"python", "torch", "pillow", "torchvision", "processors", "memory", "weights toy-judge"} <= set(names)
    assert len(names) == len(set(names))
