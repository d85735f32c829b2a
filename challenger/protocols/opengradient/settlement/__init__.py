"""The settlement of OpenGradient's LLM path, audited: batch trees, signatures, enclaves, published blobs.

``audit.audited`` gives what does not hold one by one, as reports take it: of an ``Rpc``, a ``terms.Deployment`` (settlement and
registry address, the registry's first block, the form of its ABI) and, for what is in the batches, an open
``fetch.BlobSources``. ``audit.settlement_findings`` gives all of it as a list, for a program of one's own.

``settled`` and ``merkle``: an inference, its leaf, the batch's tree; ``signatures``: RSA-PSS; ``settlements``: the two
events; ``registry``, ``enclaves`` and ``history``: the registry's events by form, the status of an enclave at any moment,
and both read from the chain; ``seen``: what was settled before, on disk; ``terms``: which contracts, and what they say; ``blobs``
and ``fetch``: what is published, and where from.
"""
