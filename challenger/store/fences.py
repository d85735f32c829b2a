"""Who may work: a token that grows with each owner, and a lease under the database's own clock.

The clock is the database's, read in the statement that compares with it: two machines whose clocks differ still agree
on whose lease has run out. A write is made under a lease by ``hold`` in the same transaction; since writers queue (see
``engine.py``), nobody can take over between that look and the commit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import UnixTime
from challenger.errors import LeaseExpired, TakenOver
from challenger.store.journal import Journal
from challenger.store.schema import fences

#: Milliseconds of a claim that nobody renews: for a program that does one thing and ends.
UNRENEWED = 3_600_000
#: Milliseconds since 1970 as the database has it, at this very moment: not at the beginning of the transaction.
_CLOCKS = {
    "sqlite": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
}


class FenceRow(NamedTuple):
    """``left``: milliseconds until the lease runs out, negative once it has."""

    name: str
    token: int
    holder: str
    left: int


class Fences:
    """The token grows with each owner; a lease is in milliseconds."""

    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now
        self._clock: Any = literal_column(_CLOCKS[connection.dialect.name], BigInteger)

    async def claim(self, name: str, holder: str, lease: int = UNRENEWED) -> int:
        """Makes ``holder`` the owner of ``name``, whoever was, and gives the token to show."""
        taken = await self._take(name, holder, lease, fences.c.name == name)
        assert taken is not None
        return taken

    async def acquire(self, name: str, holder: str, lease: int) -> int | None:
        """As ``claim``, where nobody's lease stands in the way; None where one does."""
        return await self._take(name, holder, lease, (fences.c.name == name) & (fences.c.expires <= self._clock))

    async def renew(self, name: str, token: int, lease: int) -> None:
        """From now on ``lease`` again. One that ran out is renewed too as long as nobody has taken it: the token says
        that nothing was done in between. Raises TakenOver."""
        mine = (fences.c.name == name) & (fences.c.token == token)
        renewed = await self._connection.execute(update(fences).where(mine).values(expires=self._clock + lease))
        if renewed.rowcount != 1:
            await self.hold(name, token)

    async def release(self, name: str, token: int) -> None:
        """The next one need not wait. Does nothing when it is not ours any more."""
        mine = (fences.c.name == name) & (fences.c.token == token)
        await self._connection.execute(update(fences).where(mine).values(expires=0))

    async def hold(self, name: str, token: int) -> None:
        """Raises TakenOver unless ``token`` is the latest of ``name``, LeaseExpired when its time is over."""
        row = await self.of(name)
        if row is None or row.token != token:
            raise TakenOver(fence=name, owner="nobody" if row is None else row.holder)
        if row.left <= 0:
            raise LeaseExpired(fence=name, milliseconds=-row.left)

    async def of(self, name: str) -> FenceRow | None:
        found = await self._rows(fences.c.name == name)
        return found[0] if found else None

    async def all(self) -> list[FenceRow]:
        return await self._rows(fences.c.token > 0)

    async def _rows(self, which: Any) -> list[FenceRow]:
        left = (fences.c.expires - self._clock).label("left")
        query = select(fences.c.name, fences.c.token, fences.c.holder, left).where(which).order_by(fences.c.name)
        return [FenceRow(*row) for row in await self._connection.execute(query)]

    async def _take(self, name: str, holder: str, lease: int, where: Any) -> int | None:
        facts = {"holder": holder[:80], "updated": self._now, "expires": self._clock + lease}
        taken = update(fences).where(where).values(token=fences.c.token + 1, **facts).returning(fences.c.token)
        token: int | None = (await self._connection.execute(taken)).scalar_one_or_none()
        if token is None:
            if await self.of(name) is not None:
                return None
            token = 1
            await self._connection.execute(insert(fences).values(name=name, token=token, **facts))
        await self._journal.write(self._now, "fence", name, {"holder": holder, "token": token})
        return token
