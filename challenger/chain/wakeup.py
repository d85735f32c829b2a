"""An optional WebSocket that tells of new heads, so that the next look at the chain comes early. Nothing is read from
it: a head heard here is a reason to look, over HTTP. Its loss costs latency and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import aiohttp

from challenger.chain.endpoint import mask_url

_SUBSCRIBE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
#: Bytes of one message; a head has about two thousand.
_MAX_MESSAGE = 1 << 20


class Wakeup:
    """``heard`` is set at each message. ``silence``: seconds without one after which the connection counts as dead;
    ``backoff``: (first, longest) seconds before another try, doubling. ``lost`` is told why, once a loss."""

    def __init__(
        self,
        url: str,
        *,
        silence: float = 120.0,
        backoff: tuple[float, float] = (1.0, 60.0),
        lost: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self.heard = asyncio.Event()
        self.name = mask_url(url)
        self._url = url
        self._silence = silence
        self._backoff = backoff
        self._lost = lost

    async def run(self, stop: asyncio.Event) -> None:
        """Listens until ``stop`` is set; connects again for ever."""
        failures = 0

        def well() -> None:
            nonlocal failures
            failures = 0

        listening: asyncio.Task[None] | None = None
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                listening = asyncio.create_task(self._listen(well), name="wakeup-connection")
                await asyncio.wait([listening, stopping], return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    return
                why = listening.exception()
                if why is not None and not isinstance(why, aiohttp.ClientError | OSError | ValueError | TimeoutError):
                    raise why
                failures += 1
                if failures == 1:
                    self._lost("closed" if why is None else type(why).__name__)
                pause = min(self._backoff[1], self._backoff[0] * 2 ** min(failures - 1, 20))
                await asyncio.wait([stopping], timeout=pause)
        finally:
            stopping.cancel()
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, well: Callable[[], None]) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._url, max_msg_size=_MAX_MESSAGE, heartbeat=30.0) as socket,
        ):
            await socket.send_str(_SUBSCRIBE)
            while True:
                async with asyncio.timeout(self._silence):
                    message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                well()
                self.heard.set()


async def pause(stop: asyncio.Event, heard: asyncio.Event | None, seconds: float) -> None:
    """Waits until ``stop`` is set, a head is ``heard``, or ``seconds`` have passed; what was heard is used up."""
    waits = [asyncio.ensure_future(event.wait()) for event in (stop, heard) if event is not None]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    if heard is not None:
        heard.clear()
