"""What a token may ask for: rates and numbers of requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecdb.security import LimitReached, Throttle, limits


class Clock:
    """Stands for the module's monotonic()."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(limits, "monotonic", lambda: self.now)


def admitted(throttle: Throttle) -> float:
    """0.0 where a request was let in, else the hint."""
    try:
        throttle.enter()
    except LimitReached as reached:
        return reached.retry_after
    throttle.leave()
    return 0.0


@given(
    st.integers(1, 1000),
    st.lists(st.floats(0, 0.7) | st.just(0.0), min_size=1, max_size=200),
)
def test_no_second_has_more_than_twice_the_rate(rate: int, pauses: list[float]) -> None:
    """A second's worth may come at once, and then the rate: in any w seconds at most rate * (w + 1) requests
    are let in. The hint is exact: a request that comes then is let in, and one just before is not."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        throttle = Throttle(rate, 0)
        times = []
        for pause in pauses:
            clock.now += pause
            hint = admitted(throttle)
            if hint:
                asked = clock.now
                clock.now = asked + hint * 0.99
                assert admitted(throttle) > 0
                clock.now = asked + hint
                assert admitted(throttle) == 0
            times.append(clock.now)
        for at, begun in enumerate(times):
            for count, moment in enumerate(times[at:], 1):
                assert count <= rate * (moment - begun + 1) + 1e-3


def test_a_steady_sender_is_never_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests at just the rate are all let in, however long that goes on."""
    clock = Clock(monkeypatch)
    throttle = Throttle(7, 0)
    for _ in range(10_000):
        assert admitted(throttle) == 0
        clock.now += 1 / 7


def test_a_second_of_rest_gives_a_second_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a day of rest no more than that."""
    clock = Clock(monkeypatch)
    throttle = Throttle(5, 0)
    for rest in (0.0, 1.0, 86_400.0):
        clock.now += rest
        assert [admitted(throttle) == 0 for _ in range(6)] == [True] * 5 + [False]


def test_messages_of_a_stream_wait_for_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts as it comes, so those of many streams stand in one line, and calls wait behind them."""
    Clock(monkeypatch)
    throttle = Throttle(4, 0)
    assert [throttle.turn() for _ in range(7)] == pytest.approx([0, 0, 0, 0, 0.25, 0.5, 0.75])
    assert admitted(throttle) == pytest.approx(1.0)


def test_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the limit is refused, and costs nothing of the rate; one that ends makes room."""
    Clock(monkeypatch)
    throttle = Throttle(3, 2)
    throttle.enter()
    throttle.enter()
    for _ in range(5):
        with pytest.raises(LimitReached, match="2 requests in progress") as caught:
            throttle.enter()
        assert (caught.value.limit, caught.value.retry_after > 0) == ("concurrent_requests", True)
    throttle.leave()
    throttle.enter()
    throttle.leave()
    with pytest.raises(LimitReached, match="3 requests a second") as caught:
        throttle.enter()
    assert caught.value.limit == "requests_per_second"


def test_no_limit_is_no_limit() -> None:
    """0 is none, of either."""
    throttle = Throttle(0, 0)
    for _ in range(1000):
        throttle.enter()
        assert throttle.turn() == 0
