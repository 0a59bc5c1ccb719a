"""A proxy to the API that cuts each connection after a number of response bytes."""

import socket
import threading


class Cutter:
    """`limits` has the numbers of bytes after which the first connections are cut, possibly in the middle of a line."""

    def __init__(self, url, limits):
        host, port = url.removeprefix("http://").rsplit(":", 1)
        self.target = (host, int(port))
        self.limits = list(limits)
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        """Returns the URL of the proxy."""
        host, port = self.listener.getsockname()
        return f"http://{host}:{port}"

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            limit = self.limits.pop(0) if self.limits else None
            threading.Thread(target=self.forward, args=(client, limit), daemon=True).start()

    def forward(self, client, limit):
        with client, socket.create_connection(self.target) as server:
            threading.Thread(target=copy, args=(client, server), daemon=True).start()
            if not copy(server, client, limit):
                self.cuts += 1
            # Ends the other thread, which still reads.
            for connection in (client, server):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def copy(source, sink, limit=None):
    """Copies data; returns whether the source ended before the limit."""
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
