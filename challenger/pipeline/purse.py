"""Whether the account can pay for the next filings: looked at now and then, told before it is too late to fund it."""

from __future__ import annotations

from challenger.domain import Address, Block, UnixTime, Wei
from challenger.pipeline.gates import Limits
from challenger.pipeline.obstacles import DISPUTE_GAS, STRESS, Account
from challenger.store.engine import Store
from challenger.telemetry.instruments import Instruments

#: Chain seconds between two looks: each costs two requests.
_EVERY = 60


def wanted(limits: Limits, bond: Wei, gas: Wei, outstanding: Wei, filings: int) -> Wei:
    """What should lie in the account, in wei: ``filings`` more bonds with the gas of their disputes, as far as exposure
    allows so many; the gas of one dispute at least, since what is open must be brought to its end; and what is kept."""
    room = max(0, limits.exposure - outstanding) // bond if bond else filings
    return Wei(limits.keep_balance + max(min(filings, room) * (bond + gas), gas))


class Purse:
    """``bond``: of a challenge; ``filings``: for how many more it should last."""

    def __init__(
        self,
        store: Store,
        chain: Account,
        account: Address,
        limits: Limits,
        bond: Wei,
        filings: int,
        telemetry: Instruments,
    ) -> None:
        self._store = store
        self._chain = chain
        self._account = account
        self._limits = limits
        self._bond = bond
        self._filings = filings
        self._telemetry = telemetry
        self._looked: UnixTime | None = None

    async def step(self, head: Block) -> bool:
        """Raises or clears ``gas-low``; moves nothing. Raises Expected where the chain does not answer."""
        if self._looked is not None and 0 <= head.time - self._looked < _EVERY:
            return False
        balance = await self._chain.balance(self._account)
        price = min(STRESS * await self._chain.gas_price(), self._limits.max_fee)
        async with self._store.read() as view:
            outstanding = await view.transactions.outstanding(self._account)
        enough = wanted(self._limits, self._bond, Wei(price * DISPUTE_GAS), outstanding, self._filings)
        self._looked = head.time
        if balance < enough:
            missing = f"{(enough - balance) / 10**18:.6f} ether"
            self._telemetry.alerts.alert(
                "gas-low", account=self._account, balance=balance, wanted=enough, send_at_least=missing
            )
        else:
            self._telemetry.alerts.clear("gas-low")
        return False
