"""The programs of Crunch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def binaries() -> Path:
    """Return the folder with crunch-api and crunch-worker."""
    folder = os.environ.get("CRUNCH_BIN")
    if not folder:
        pytest.skip("CRUNCH_BIN does not name the folder with crunch-api and crunch-worker")
    return Path(folder).resolve()
