"""redocly and spectral report nothing in the OpenAPI document."""

import subprocess

from document import fetch
from stage import check

FILE = fetch()
for command in [
    ["redocly", "lint", "--config", "redocly.yaml", "--format", "stylish", "--max-problems", "1000", FILE],
    ["spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", FILE],
]:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    print(finished.stdout, finished.stderr)
    check(finished.returncode, 0, f"{command[0]} reports no errors")
    check("warning" in finished.stdout + finished.stderr, False, f"{command[0]} reports no warnings")
