"""What exceptions mean for a job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import crunch
from crunch.worker.failures import MAX_MESSAGE_BYTES, failure_of


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class HTTPServerError(Exception): ...


class _Private(Exception): ...


class Größe(Exception): ...  # noqa: PLC2401


class Loud(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), "value_error"),
        (OSError("x"), "os_error"),
        (ZeroDivisionError(), "zero_division_error"),
        (HTTPServerError(), "http_server_error"),
        (_Private(), "private"),
        (Größe(), "gr_e"),
        (type("X" * 100, (Exception,), {})(), "x" * 64),
        (type("Ö", (Exception,), {})(), "exception"),
        (Loud(), "loud"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_the_code_is_the_name_of_the_class(error: Exception, code: str) -> None:
    failure = failure_of(raised(error))
    assert (failure.code, failure.retryable) == (code, True)


def test_the_end_of_a_long_message_is_kept() -> None:
    failure = failure_of(raised(ValueError("ä" * 5000 + "end")))
    assert len(failure.message.encode()) in (MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES - 1)
    assert failure.message.endswith("äend")
    long = crunch.Fail("long", "ä" * 5000 + "end")
    assert failure_of(long).message.endswith("äend")


def test_a_message_that_is_not_utf8_is_replaced() -> None:
    assert failure_of(crunch.Fail("x", "\udc80")).message == "?"


def test_a_trace_has_the_cause() -> None:
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner

    with pytest.raises(ValueError, match="outer") as caught:
        fail()
    message = failure_of(caught.value).message
    assert "KeyError: 'inner'" in message
    assert message.endswith("ValueError: outer")


@pytest.mark.parametrize(
    ("in_", "after_ms"),
    [("30s", 30_000), (1.5, 1500), (0, 0), (timedelta(minutes=1), 60_000), (None, None)],
)
def test_retry_says_when(in_: Any, after_ms: int | None) -> None:
    failure = failure_of(crunch.Retry("busy", in_=in_))
    assert (failure.after_ms, failure.retryable, failure.code) == (after_ms, True, None)


@pytest.mark.parametrize(("in_", "ms"), [("2m", 120_000), (0.5, 500), (0, 0)])
def test_a_snooze_says_for_how_long(in_: Any, ms: int) -> None:
    assert failure_of(crunch.Snooze(in_)).members() == {"snooze_ms": ms}


def test_wrong_values_are_rejected_where_they_are_made() -> None:
    with pytest.raises(ValueError, match="in_: 'soon' is not a duration"):
        crunch.Retry(in_="soon")
    with pytest.raises(ValueError, match="code: 'No Light' is not a name"):
        crunch.Fail("No Light")
    with pytest.raises(ValueError, match="code"):
        crunch.Retry(code="")


def test_a_cancel_passes_handlers_of_exceptions() -> None:
    assert not issubclass(crunch.Canceled, Exception)
    assert failure_of(crunch.Canceled("timeout")).message == "stopped: timeout"


def test_exceptions_can_be_read() -> None:
    assert str(crunch.Fail("no_light", "no ray met")) == "no_light: no ray met"
    assert str(crunch.Retry("busy")) == "busy"
    assert str(crunch.MachineFault("no device")) == "no device"
