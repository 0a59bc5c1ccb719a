"""`python -m crunch`: the child of a worker, or a worker for some modules."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = sys.argv[1:]
    if "CRUNCH_IN_FD" in os.environ:
        from crunch.worker.child import run_child

        return run_child(arguments)
    from crunch.worker.command_line import run_by_hand

    return run_by_hand(arguments)


if __name__ == "__main__":
    sys.exit(main())
