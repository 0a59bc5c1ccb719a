"""Much output, much memory, slow input, and files, for `wrong.py`."""

import contextlib
import time

MIB = 1 << 20
allocated = []


def flood(file, block, size):
    """Writes repetitions of a block, this many bytes."""
    for start in range(0, size, len(block)):
        file.write(block[: size - start])
    file.flush()


def endlessly(write, block):
    while True:
        write(block)
        # Other threads write too.
        time.sleep(0.0001)


def allocate(size, pause=0):
    """Allocates memory in pieces of at most 16 MiB, writes to it and keeps it."""
    for start in range(0, size, 16 * MIB):
        allocated.append(b"x" * min(16 * MIB, size - start))
        time.sleep(pause)


def slowly(read, size):
    for start in range(0, size, 8192):
        time.sleep(0.125)
        yield read(min(8192, size - start))


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def creates(path):
    """Returns whether the file did not exist. It exists afterwards."""
    with contextlib.suppress(FileExistsError), open(path, "x"):
        return True
    return False


def write_file(path, data=b"", size=None):
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(size)
