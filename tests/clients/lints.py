"""redocly and spectral: the document is one that others' tools read without a complaint."""

import subprocess

from document import fetch
from stage import check

FILE = fetch()
for command in [
    ["redocly", "lint", "--config", "redocly.yaml", "--format", "stylish", "--max-problems", "1000", FILE],
    ["spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", FILE],
]:
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    print(made.stdout, made.stderr)
    check(made.returncode, 0, f"{command[0]} has nothing against it")
    check("warning" in made.stdout + made.stderr, False, f"{command[0]} warns of nothing")
