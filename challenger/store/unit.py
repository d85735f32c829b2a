"""One transaction with every repository bound to it: what ``Store.read`` and ``Store.begin`` hand out."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import UnixTime
from challenger.store.audits import Audits
from challenger.store.chainview import ChainView
from challenger.store.epochs import Epochs
from challenger.store.fences import Fences
from challenger.store.findings import Findings
from challenger.store.handoffs import Handoffs
from challenger.store.hindsight import Hindsight
from challenger.store.journal import Journal
from challenger.store.keep import Approvals, Latencies, Settings
from challenger.store.listing import Listing
from challenger.store.overview import Overviews
from challenger.store.records import Records
from challenger.store.selftests import SelfTests
from challenger.store.transactions import Transactions
from challenger.store.verdicts import Verdicts
from challenger.store.work import Work

_NO_TIME = UnixTime(0)


class View:
    """A snapshot. Methods that write are there too, and the database refuses them."""

    def __init__(self, connection: AsyncConnection, now: UnixTime = _NO_TIME) -> None:
        self.connection = connection
        self.journal = Journal(connection)
        self.chain = ChainView(connection)
        self.work = Work(connection, self.journal, now)
        self.verdicts = Verdicts(connection, self.journal, now)
        self.epochs = Epochs(connection, self.journal, now)
        self.transactions = Transactions(connection, self.journal, now)
        self.fences = Fences(connection, self.journal, now)
        self.approvals = Approvals(connection, self.journal, now)
        self.settings = Settings(connection, self.journal, now)
        self.latencies = Latencies(connection, now)
        self.selftests = SelfTests(connection, self.journal, now)
        self.audits = Audits(connection, self.journal, now)
        self.findings = Findings(connection, self.journal, now)
        self.hindsight = Hindsight(connection)
        self.records = Records(connection)
        self.listing = Listing(connection)
        self.overview = Overviews(connection)
        self.handoffs = Handoffs(connection)


class Unit(View):
    """A writing transaction at chain time ``now``: several moves and intents, all or none."""

    def __init__(self, connection: AsyncConnection, now: UnixTime) -> None:
        super().__init__(connection, now)
        self.now = now
        self.marks: list[str] = []

    def mark(self, name: str) -> None:
        """Names a write that the journal does not tell of (see ``crossing.py``)."""
        self.marks.append(name)
