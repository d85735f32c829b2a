"""One base error; the class docstring is the message, the keyword arguments are the context.

``Expected`` errors happen in normal operation (an endpoint is away, data is withheld): they are reported in one
line and the service goes on. Everything else is a mistake in configuration (exit 2) or a bug.
"""

from __future__ import annotations

from typing import Any


def printable(text: str) -> str:
    """One line of text, whatever came in: no control character, and nothing that a database or UTF-8 refuses."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ChallengerError(Exception):
    """something went wrong"""

    exit_code = 1

    def __init__(self, detail: str = "", **context: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = context

    def __str__(self) -> str:
        head = " ".join((type(self).__doc__ or "").split())
        tail = ", ".join(f"{key}={value}" for key, value in self.context.items())
        return printable(head + (f": {self.detail}" if self.detail else "") + (f" ({tail})" if tail else ""))


class ConfigError(ChallengerError):
    """the configuration cannot be used"""

    exit_code = 2


class Expected(ChallengerError):
    """the outside world did not do its part"""


class RecordingUnusable(Expected):
    """nothing was done"""


class EndpointError(Expected):
    """the JSON-RPC endpoint could not be used"""


class NoAnswer(EndpointError):
    """the JSON-RPC endpoint did not answer in time"""


class AnswerTooLarge(EndpointError):
    """the JSON-RPC endpoint answers with more than is read"""


class RpcError(Expected):
    """the JSON-RPC endpoint refused the call"""


class RateLimited(RpcError):
    """the JSON-RPC endpoint asks to slow down"""

    def __init__(self, detail: str = "", retry_after: float | None = None, **context: Any) -> None:
        """``retry_after``: seconds the endpoint asked for, when it did."""
        super().__init__(detail, **context)
        self.retry_after = retry_after


class UnknownBlock(EndpointError):
    """the JSON-RPC endpoint does not know this block"""


class NoHistory(EndpointError):
    """the JSON-RPC endpoint does not keep the state of this block: name one that does, an archive node, in [chain] rpc"""


class Unproven(EndpointError):
    """what the JSON-RPC endpoint serves of a block does not fit the block's hash"""


class IncompleteLogs(EndpointError):
    """the JSON-RPC endpoint serves other logs than the block holds"""


class RangeTooLarge(RpcError):
    """the endpoint refuses a log range of this size"""


class WrongChain(ConfigError):
    """the endpoint serves another chain"""


class WrongContract(ConfigError):
    """the contract at this address is not the one expected"""


class MalformedLog(Expected):
    """a log does not decode as the event it claims to be"""


class Reverted(Expected):
    """the transaction would revert"""

    def __init__(self, detail: str = "", data: bytes = b"", **context: Any) -> None:
        """``data``: the revert data, for the contract's own errors."""
        super().__init__(detail, **context)
        self.data = data


class NotInRecord(ChallengerError):
    """the record holds no such thing"""

    exit_code = 2


class StoreError(ChallengerError):
    """the database could not be used"""


class CursorMoved(StoreError):
    """another process moved the cursor"""


class IllegalMove(StoreError):
    """a state was to change along an arrow that does not exist"""


class StaleRow(StoreError):
    """another worker changed the row first; read it again"""


class NotMigrated(StoreError):
    """the database has another schema than this program: run `challenger db upgrade`"""


class NoDatabase(NotMigrated):
    """there is no such database: `challenger db upgrade` makes it"""


class JournalBroken(StoreError):
    """the journal does not verify"""


class LedgerExhausted(ChallengerError):
    """a reorganisation reaches below the block ledger"""


class DataUnavailable(Expected):
    """committed data could not be had"""


class DigestMismatch(DataUnavailable):
    """the bytes served are not the ones committed"""


class TakenOver(StaleRow):
    """another process works for this account now"""


class RecordOlder(TakenOver):
    """the database is an older copy of itself: what was written last is not in it"""


class LeaseExpired(StaleRow):
    """the lease on this account has run out; nothing is written until it is renewed"""


class HeldElsewhere(Expected):
    """another process works for this account: let that one do it, or stop it first"""


class OurDoing(Expected):
    """something of this watcher keeps it from having data; nothing is held against anyone"""


class FetchRefused(OurDoing):
    """the rules of this watcher forbid to fetch from there; nothing is held against anyone"""


class OwnGateways(OurDoing):
    """no IPFS gateway of ours gave the data; nothing is held against anyone"""


class OwnDisk(OurDoing):
    """the artefact cache on this machine could not be used; nothing is held against anyone"""


class BundleRefused(ChallengerError):
    """no evidence bundle that holds"""


class NoEvidence(ChallengerError):
    """no evidence bundle can be made"""


class FilingRefused(Expected):
    """a rule of safety forbids to file now"""


class GivenUp(Expected):
    """the wish was given up before it was signed"""


class NeverFiled(ChallengerError):
    """what is no case of a watcher was about to be filed: refused; the program has a fault, nothing was sent"""


class AuditRefused(NeverFiled):
    """an audit's finding was about to be filed: refused; the program has a fault, nothing was sent"""


class PlantedRefused(NeverFiled):
    """a planted item of the self-test was about to be filed: refused; the program has a fault, nothing was sent"""
