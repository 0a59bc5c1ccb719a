"""redocly and spectral: the document is one that others' tools read without a complaint."""

import os
import subprocess
import urllib.request

from stage import PATIENCE, URL, check

request = urllib.request.Request(f"{URL}/openapi.json", headers={"Authorization": f"Bearer {os.environ['CRUNCH_KEY']}"})
with urllib.request.urlopen(request, timeout=PATIENCE) as answer, open("openapi.json", "wb") as file:
    file.write(answer.read())

for command in [
    ["redocly", "lint", "--config", "redocly.yaml", "--format", "stylish", "--max-problems", "1000", "openapi.json"],
    ["spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", "openapi.json"],
]:
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    print(made.stdout, made.stderr)
    check(made.returncode, 0, f"{command[0]} has nothing against it")
    check("warning" in made.stdout + made.stderr, False, f"{command[0]} warns of nothing")
