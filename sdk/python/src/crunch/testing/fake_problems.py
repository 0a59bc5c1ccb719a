"""The problems that a fake API responds with."""

from __future__ import annotations

import json
from typing import Any, Final

from crunch.api.http import PROBLEM, Response


class Rejected(Exception):
    """A problem is the response."""

    def __init__(self, status: int, slug: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.members: Final = {
            "type": f"/problems/{slug}",
            "title": slug.replace("-", " ").capitalize(),
            "status": status,
            "detail": detail,
            **members,
        }

    def response(self, **headers: str) -> Response:
        """Return the problem document."""
        status: int = self.members["status"]
        if status in (429, 503):
            headers.setdefault("retry-after", "1")
        return Response(status, {"content-type": PROBLEM, **headers}, to_json(self.members))


def to_json(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


def parsed(body: bytes) -> Any:
    """Return the value of JSON, which must be well-formed."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise Rejected(400, "malformed-json", str(error)) from None


def invalid(pointer: str, detail: str) -> Rejected:
    """Return the problem of a submission that is wrong at one place."""
    errors = [{"detail": detail, "pointer": pointer}]
    return Rejected(422, "invalid-submission", f"{pointer}: {detail}", errors=errors)
