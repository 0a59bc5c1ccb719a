"""The OpenAPI document of an API that requires keys, as a file: not every tool can send a key."""

import os
import urllib.request

from stage import TIMEOUT_S, URL

FILE = "openapi.json"


def fetch():
    """Downloads the document; returns the name of the file."""
    headers = {"Authorization": f"Bearer {os.environ['CRUNCH_KEY']}"}
    request = urllib.request.Request(f"{URL}/openapi.json", headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response, open(FILE, "wb") as file:
        file.write(response.read())
    return FILE
