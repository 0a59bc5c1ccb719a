"""What only the blocking client has: threads and processes that share it."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ThreadPoolExecutor

from crunch.client import Client

from .scripted import TOKEN, ScriptedServer, job, reply
from .stack import Stack


def test_threads_share_a_client(stack: Stack) -> None:
    with Client(stack.url) as client, ThreadPoolExecutor(8) as threads:
        results = threads.map(
            lambda number: client.submit("echo", number, wait=60).result(60), range(80)
        )
        assert list(results) == list(range(80))


def test_a_process_that_was_forked_has_connections_of_its_own(server: ScriptedServer) -> None:
    server.script(*[reply(200, job())] * 3)
    with Client(server.url) as client:
        client.get(TOKEN)
        if (child := os.fork()) == 0:
            code = 1
            try:
                client.get(TOKEN)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.get(TOKEN)
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_closing_leaves_no_connection(server: ScriptedServer) -> None:
    server.script(*[reply(200, job())] * 2)
    client = Client(server.url)
    client.get(TOKEN)
    client.close()
    client.get(TOKEN)
    client.close()
    assert [request.connection for request in server.requests] == [1, 2]
