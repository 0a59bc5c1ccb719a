"""The HTTP API without input and output: requests to send, responses to parse, when to repeat.

Both clients, the fake one too, run the same flows of this package; they differ only in how they
send a request and how they pause. Nothing here opens a connection, sleeps or starts a thread. The
modules are private and may change; import names from `crunch`.
"""
