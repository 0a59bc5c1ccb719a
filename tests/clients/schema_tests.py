"""schemathesis: requests of every kind that /openapi.json allows, and of many that it does not, with all checks."""

import subprocess

from document import fetch
from stage import URL, check

made = subprocess.run(["schemathesis", "run", fetch(), "--url", URL], check=False)
check(made.returncode, 0, "schemathesis finds nothing")
