"""A line that breaks: forwards to the API, and cuts each connection once it has carried so many bytes of answer."""

import socket
import threading


class Cutter:
    """`limits` says after how many bytes the first connections are cut, in the middle of a line if it comes so."""

    def __init__(self, url, limits):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.target = (host, int(port))
        self.limits = list(limits)
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        """Where it listens."""
        host, port = self.listener.getsockname()
        return f"http://{host}:{port}"

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            limit = self.limits.pop(0) if self.limits else None
            threading.Thread(target=self.carry, args=(client, limit), daemon=True).start()

    def carry(self, client, limit):
        with client, socket.create_connection(self.target) as server:
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            if not pump(server, client, limit):
                self.cuts += 1
            # The other thread still reads from both.
            for end in (client, server):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def pump(source, sink, limit=None):
    """Whether the source ended by itself before the limit."""
    while limit is None or limit > 0:
        try:
            data = source.recv(min(4096, limit or 4096))
            if not data:
                return True
            sink.sendall(data)
        except OSError:
            return True
        if limit is not None:
            limit -= len(data)
    return False
