"""How often somebody may ask: a token bucket each, in bounded memory."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address


class Rates:
    """Each key has `burst` requests at once and `per_second` more as time goes; may be asked from any thread.

    Only the `most` keys that asked last are remembered: one that is forgotten has its burst again.
    """

    def __init__(
        self, *, per_second: float, burst: int, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._most, self._clock = per_second, burst, most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._turn = threading.Lock()

    def wait(self, key: str) -> float:
        """Take one request from the key's bucket and return 0, or the seconds until there is one."""
        with self._turn:
            now = self._clock()
            left, at = self._buckets.pop(key, (float(self._burst), now))
            left = min(self._burst, left + (now - at) * self._per_second)
            missing = max(0.0, 1 - left)
            self._buckets[key] = (left if missing else left - 1, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return missing / self._per_second


def network_of(address: str) -> str:
    """What one stranger has to himself: an IPv4 address, or the first half of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else parsed.exploded[:19]
