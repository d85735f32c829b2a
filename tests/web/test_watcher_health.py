"""What only the running watcher knows is read from its own metrics, or said not to be known."""

from __future__ import annotations

import pytest

from challenger.errors import ConfigError
from challenger.telemetry.health import Health
from challenger.telemetry.metrics import ALERTS_ACTIVE, HEAD_AGE, HEAD_BLOCK, Prometheus
from challenger.telemetry.serve import serve
from challenger.web.watcher import UNKNOWN, Watcher


async def test_the_watchers_health_is_read_from_it() -> None:
    metrics, now = Prometheus(), [0.0]
    health = Health(10.0, lambda: now[0])
    metrics.set(HEAD_BLOCK, 77)
    metrics.set(HEAD_AGE, 1.5)
    metrics.set(ALERTS_ACTIVE, 2, name="shed")
    metrics.set(ALERTS_ACTIVE, 0, name="paused")
    async with serve(metrics, "127.0.0.1:0", health) as port:
        watcher = Watcher(f"127.0.0.1:{port}", lambda: now[0])
        found = await watcher.health()
        assert (found.known, found.ready, found.trouble) == (True, False, "the chain was not read yet")
        assert (found.head_block, found.head_age, found.standing) == (77, 1.5, {"shed": 2})
        assert found.samples['challenger_alerts_active{name="shed"}'] == 2
        health.looked()
        assert (await watcher.health()).ready is False  # of a moment ago
        now[0] = 3.0
        assert (await watcher.health()).ready is True
    now[0] = 6.0
    gone = await watcher.health()
    assert (gone.known, gone.ready) == (False, None)
    assert "does not answer" in gone.why


async def test_where_it_serves_none_nothing_is_known() -> None:
    assert (await Watcher("").health()).why == UNKNOWN
    with pytest.raises(ConfigError, match="loopback"):
        Watcher("192.0.2.1:80")
