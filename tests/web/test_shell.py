"""What happens when serving begins."""

import logging

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from onereward.web.shell import new_app


def test_what_begins_with_serving_may_fail_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    begun = []

    def begin() -> None:
        begun.append(True)
        raise OSError("somebody reads the database")

    app = new_app(APIRouter(), description="", upload=0, local_only=False, begin=begin)
    assert begun == []
    with caplog.at_level(logging.WARNING), TestClient(app) as client:
        assert begun == [True] and client.get("/healthz").status_code == 200
    assert [record.getMessage() for record in caplog.records] == ["somebody reads the database"]
