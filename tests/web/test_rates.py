"""Token buckets, on a clock that the test turns."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from onereward.web.rates import Rates, network_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_as_many_as_time_gives() -> None:
    clock = Clock()
    rates = Rates(per_second=2, burst=3, clock=clock)
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait("b") == 0  # another's bucket
    clock.now += 0.25
    assert rates.wait("a") == 0.25  # asking in vain costs nothing
    clock.now += 0.25
    assert [rates.wait("a"), rates.wait("a")] == [0, 0.5]
    clock.now += 1000
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]  # no more than the burst is saved up


def test_memory_is_bounded_and_those_who_ask_stay_in_it() -> None:
    rates = Rates(per_second=1, burst=1, most=3, clock=Clock())
    assert rates.wait("a") == 0
    for stranger in range(1000):
        rates.wait(str(stranger))
        assert rates.wait("a") == 1
        assert len(rates._buckets) <= 3


def test_threads_get_no_more_than_the_burst_together() -> None:
    rates = Rates(per_second=1, burst=500, clock=Clock())
    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(lambda _: rates.wait("a"), range(2000)))
    assert waits.count(0) == 500


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:0db8:0000:0000"),
        ("2001:db8::ffff:2", "2001:0db8:0000:0000"),
        ("2001:db8:0:1::1", "2001:0db8:0000:0001"),
        ("testclient", "testclient"),
    ],
)
def test_a_stranger_s_ipv6_addresses_are_one(address: str, network: str) -> None:
    assert network_of(address) == network
