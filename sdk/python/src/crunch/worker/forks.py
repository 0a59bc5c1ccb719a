"""Processes that handlers fork: they are no children of the worker, and must not behave like one.

The channel closes its descriptors in them (`channel.py`); here is what else they must not inherit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from typing import Final, NoReturn

from crunch.worker import output

TERMINATED: Final = 128 + signal.SIGTERM
"""The exit code after SIGTERM, as shells have it."""


def end_forked(outcome: BaseException | int) -> NoReturn:
    """End a forked process that returned from the handler, or raised an exception in it."""
    code = outcome if isinstance(outcome, int) else 1
    if isinstance(outcome, SystemExit):
        code = outcome.code if isinstance(outcome.code, int) else int(outcome.code is not None)
    elif isinstance(outcome, BaseException):
        traceback.print_exception(outcome)
    with contextlib.suppress(Exception):
        output.flush()
    os._exit(code)


def sigterm_is_free() -> bool:
    """Whether no module with tasks has its own reaction to SIGTERM."""
    return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def reset_sigterm_in_forks() -> None:
    """Let processes that are forked from this one end at SIGTERM, as usual.

    It is blocked meanwhile: between the fork and the reset, the reaction of this process would run
    in the new one, or the signal would be lost.
    """
    # By thread: several may fork.
    masks: dict[int, set[int | signal.Signals]] = {}

    def block() -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        masks[threading.get_ident()] = set(blocked)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    def reset() -> None:
        # The descriptor that wakes an event loop up is shared with this process.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=reset)
