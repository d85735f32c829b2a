"""A watchtower for AI inference that is committed on chain."""

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    try:
        return version("inference-challenger")
    except PackageNotFoundError:
        return "unknown (not installed)"
