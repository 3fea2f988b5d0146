"""Pictures as a route answers with them, and those that are gone."""

import logging
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from onereward.web.images import Images


def test_a_picture_is_a_png_that_may_be_kept_by_who_has_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    answer = Images().answer(tmp_path / "a.png")
    assert answer.body == b"picture" and answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"


def test_a_picture_that_is_gone_is_told_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = Images()
    for name in ("a.png", "b.png", "a.png", "a.png"):
        with pytest.raises(HTTPException, match="this picture is missing here: tell whoever runs this") as refused:
            images.answer(tmp_path / name)
        assert refused.value.status_code == 404
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2 and "a.png is missing" in errors[0] and "b.png is missing" in errors[1]
    (tmp_path / "a.png").write_bytes(b"back")
    assert images.answer(tmp_path / "a.png").body == b"back"
