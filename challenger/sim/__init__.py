"""A small world for the demo and the tests: honest and cheating providers on a devnet, and what became of them.

The watcher sees none of this: it meets the same contracts, data and models as on any chain.
"""
