"""`crunch-worker check-channel` with children of this package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CHILDREN

LEAST_CASES = 50


@pytest.mark.parametrize("module", ["crunch.check_tasks", "check_coroutines"])
def test_a_child_passes_all_cases(module: str, binaries: Path) -> None:
    child = [sys.executable, "-m", "crunch", module]
    checked = subprocess.run(
        [binaries / "crunch-worker", "check-channel", "--", *child],
        cwd=CHILDREN,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    summary = checked.stdout.splitlines()[-1]
    found = re.fullmatch(r"(\d+) cases: (\d+) passed, 0 failed, 0 skipped", summary)
    assert found is not None, checked.stdout
    assert int(found[1]) == int(found[2]) >= LEAST_CASES
