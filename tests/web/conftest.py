"""The small app's folder and the app, made anew for each test."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.web.apps import folder_of, small_app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "pages")


@pytest.fixture
def app(folder: Path) -> FastAPI:
    return small_app(folder)
