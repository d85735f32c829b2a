"""How times and amounts are written for people, on the command line and on pages. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(time: int) -> str:
    """Chain time as a person reads it."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(time)


def ether(wei: int) -> str:
    """Wei as ether, exact to nine places, without trailing zeros."""
    whole, rest = divmod(abs(wei), 10**18)
    text = f"{whole}.{rest:018d}"[: len(str(whole)) + 10].rstrip("0").rstrip(".")
    return ("-" if wei < 0 else "") + text


def numbered(identity: int) -> str:
    """The number of a dispute or demand; one that no contract counts up to is a 32-byte identifier, and written as such."""
    return str(identity) if identity < 1 << 64 else f"0x{identity:064x}"
