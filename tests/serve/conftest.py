"""The editor of these tests, saved once."""

from pathlib import Path

import pytest

from tests.tiny import tiny_flux_fill_folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("editor"))
