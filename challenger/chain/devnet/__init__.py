"""Chains to develop, test and show on: one interface, in this process, served over loopback, or anvil.

Nothing here is imported by a watcher that follows a real chain.
"""
