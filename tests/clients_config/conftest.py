"""The home folder that every test here begins with."""

from pathlib import Path

import pytest

from clients_config.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
