"""Our transactions, held against the journal and against their own signed bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import rlp
from sqlalchemy import select

from challenger.audit.finding import ALIEN, GONE, Finding, differences
from challenger.chain.hashing import keccak
from challenger.store.schema import attempts, transactions
from challenger.store.unit import View

_CLEAN: dict[str, Any] = {"nonce": None, "hash": None, "block": None, "block_hash": None, "gas_used": None}
_UNMINED: dict[str, Any] = {"block": None, "block_hash": None, "gas_used": None}
_COLUMNS = (
    "protocol", "subject", "action", "state", "account", "deadline", "to", "data", "value", "nonce", "hash", "block",
    "block_hash", "gas_used", "error",
)  # fmt: skip
#: Members of an entry that are no columns of the row.
_ASIDE = frozenset({"id", "attempt", "signed_hash"})


@dataclass(slots=True)
class Sent:
    """What the journal says there should be: rows by id, attempts by (id, number)."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    signed: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)

    def take(self, kind: str, subject: str, told: dict[str, Any]) -> None:
        """One entry ``tx-…``."""
        identity = told["id"]
        row = self.rows.setdefault(identity, {"subject": subject, "error": "", **_CLEAN})
        state = kind.removeprefix("tx-")
        if state == "intent" and "to" not in told:
            row["nonce"] = None  # its turn begins anew, what it asks for stays
        elif state == "intent":
            row.update(_CLEAN)
        elif state == "sent" and "attempt" not in told:
            row.update(_UNMINED)
        row.update({name: value for name, value in told.items() if name not in _ASIDE}, state=state)
        if "signed_hash" in told:
            made = {"nonce": told["nonce"], "hash": told["signed_hash"], "sent": False}
            self.signed[identity, told["attempt"]] = made
        elif "attempt" in told and (identity, told["attempt"]) in self.signed:
            self.signed[identity, told["attempt"]]["sent"] = True


async def audit_sent(view: View, told: Sent) -> list[Finding]:
    found: list[Finding] = []
    left = dict(told.rows)
    async for row in await view.connection.stream(select(transactions).order_by(transactions.c.id)):
        values = {name: getattr(row, name) for name in _COLUMNS}
        values["value"] = str(row.value)
        about = f"{row.id} on {row.subject}"
        said = left.pop(row.id, None)
        found += (
            [Finding("transactions", about, ALIEN)]
            if said is None
            else differences("transactions", about, values, said)
        )
    found += [Finding("transactions", f"{key} on {row['subject']}", GONE) for key, row in left.items()]
    versions = dict(told.signed)
    joined = select(attempts, transactions.c.account).join(transactions, transactions.c.id == attempts.c.transaction)
    order = (attempts.c.transaction, attempts.c.number)
    async for row in await view.connection.stream(joined.order_by(*order)):
        about = f"{row.transaction}/{row.number}"
        said = versions.pop((row.transaction, row.number), None)
        if said is None:
            found.append(Finding("attempts", about, ALIEN))
            continue
        values = {"nonce": row.nonce, "hash": row.hash, "sent": row.sent_at is not None}
        found += differences("attempts", about, values, said)
        found += [Finding("attempts", about, what) for what in _bytes(row)]
    found += [Finding("attempts", f"{key[0]}/{key[1]}", GONE) for key in versions]
    return found


def _bytes(row: Any) -> Iterator[str]:
    """What the signed bytes (EIP-1559) say otherwise than the row."""
    if keccak(row.raw) != row.hash:
        yield "its bytes do not hash to its hash"
        return
    try:
        fields = [int.from_bytes(item, "big") for item in rlp.decode(row.raw[1:])[1:5]]
    except Exception:  # noqa: BLE001 - the library has no common error, and the items may be of any shape
        yield "its bytes are no transaction"
        return
    for name, there, value in zip(
        ("nonce", "tip", "max_fee", "gas"), fields, (row.nonce, row.tip, row.max_fee, row.gas), strict=True
    ):
        if there != value:
            yield f"{name} is {value}, its signed bytes say {there}"
