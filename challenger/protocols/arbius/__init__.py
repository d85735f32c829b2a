"""Arbius: solutions to tasks, committed by the CID of their files, that any staked validator may contest (engine V1 to
V5.2), or master contesters alone (V6)."""
