"""Whole worlds with a watcher in them, broken by a seeded plan, and held against what must always be true."""
