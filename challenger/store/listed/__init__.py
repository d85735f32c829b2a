"""What of the record can be listed, and by what: one ``Listed`` a table (see ``listing.py``)."""

from __future__ import annotations

from typing import Any

from challenger.store.listed.chain import (
    COMMITMENTS,
    DEMANDS,
    DISPUTES,
    MODELS,
    PROVIDERS,
    TASKS,
    Blocks,
    CommitmentFilter,
    CommitmentListed,
    DemandFilter,
    DisputeFilter,
    ModelFilter,
    ProviderListed,
    TaskFilter,
    commitment_of,
)
from challenger.store.listed.entries import (
    ALERTS,
    JOURNAL,
    AlertFilter,
    AlertListed,
    JournalFilter,
)
from challenger.store.listed.ours import (
    APPROVALS,
    AUDITS,
    EPOCHS,
    FINDINGS,
    PAUSES,
    SELFTESTS,
    TRANSACTIONS,
    VERDICTS,
    ApprovalFilter,
    AuditFilter,
    EpochFilter,
    EpochListed,
    FindingFilter,
    PauseFilter,
    SelfTestFilter,
    TransactionFilter,
    VerdictFilter,
)
from challenger.store.listing import Listed

#: Everything that can be listed, by name.
LISTED: dict[str, Listed[Any, Any]] = {
    one.name: one
    for one in (
        MODELS,
        TASKS,
        COMMITMENTS,
        DISPUTES,
        DEMANDS,
        PROVIDERS,
        VERDICTS,
        AUDITS,
        FINDINGS,
        TRANSACTIONS,
        EPOCHS,
        SELFTESTS,
        PAUSES,
        APPROVALS,
        JOURNAL,
        ALERTS,
    )
}

__all__ = [
    "ALERTS",
    "APPROVALS",
    "AUDITS",
    "COMMITMENTS",
    "DEMANDS",
    "DISPUTES",
    "EPOCHS",
    "FINDINGS",
    "JOURNAL",
    "LISTED",
    "MODELS",
    "PAUSES",
    "PROVIDERS",
    "SELFTESTS",
    "TASKS",
    "TRANSACTIONS",
    "VERDICTS",
    "AlertFilter",
    "AlertListed",
    "ApprovalFilter",
    "AuditFilter",
    "Blocks",
    "CommitmentFilter",
    "CommitmentListed",
    "DemandFilter",
    "DisputeFilter",
    "EpochFilter",
    "EpochListed",
    "FindingFilter",
    "JournalFilter",
    "ModelFilter",
    "PauseFilter",
    "ProviderListed",
    "SelfTestFilter",
    "TaskFilter",
    "TransactionFilter",
    "VerdictFilter",
    "commitment_of",
]
