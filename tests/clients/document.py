"""The OpenAPI document of an API that asks for keys, as a file: not every tool can show a key to get it."""

import os
import urllib.request

from stage import PATIENCE, URL

FILE = "openapi.json"


def fetch():
    """Fetches it; returns its name."""
    headers = {"Authorization": f"Bearer {os.environ['CRUNCH_KEY']}"}
    request = urllib.request.Request(f"{URL}/openapi.json", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer, open(FILE, "wb") as file:
        file.write(answer.read())
    return FILE
