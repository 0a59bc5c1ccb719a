"""A web service in front of Crunch. It imports neither the code of the tasks nor what they need."""

from typing import Annotated, Any

import crunch.fastapi
from fastapi import FastAPI, Header, Query, Response

app = FastAPI()
jobs = crunch.AsyncClient()  # of the API that CRUNCH_URL names, with the key in CRUNCH_KEY
crunch.fastapi.handle_errors(app)
Key = Annotated[str | None, Header(alias="Idempotency-Key")]


@app.post("/crunch", status_code=202)
async def submit(payload: dict[str, Any], key: Key = None) -> Response:
    job = await jobs.submit("mandelbrot.area", payload, key=key)
    return crunch.fastapi.accepted(job, f"/result/{job.token}")


@app.get("/result/{token}")
async def result(token: str, wait: Annotated[float, Query(ge=0, le=60)] = 0) -> Response:
    return crunch.fastapi.answer(await jobs.get(token, wait=wait))
