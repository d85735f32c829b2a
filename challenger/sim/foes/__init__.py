"""Adversaries of the watcher, as actors on the embedded devnet with the real contracts. See docs/simulation.md."""
