"""The settlement of OpenGradient's LLM path, audited: batch trees, signatures, enclaves, published blobs.

``audit.settlement_findings(chain, deployment, first, last, blobs=None, limits=None) -> list[Finding]`` is what a command
calls, with an ``Rpc``, a ``terms.Deployment`` (settlement and registry address, the registry's first block, the form of
its ABI) and, for what is in the batches, an open ``fetch.BlobSources``. ``check.findings`` is the pure part of it.

``audit.audited`` gives the same one by one.

``settled`` and ``merkle``: an inference, its leaf, the batch's tree; ``signatures``: RSA-PSS; ``settlements``: the two
events; ``registry``, ``enclaves`` and ``history``: the registry's events by form, the status of an enclave at any moment,
and both read from the chain; ``seen``: what was settled before, on disk; ``terms``: which contracts, and what they say; ``blobs``
and ``fetch``: what is published, and where from.
"""
