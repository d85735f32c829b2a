"""The settlement of OpenGradient's LLM path, audited: batch trees, signatures, enclaves, published blobs.

``audit.settlement_findings(chain, deployment, first, last, blobs=None, limits=None) -> list[Finding]`` is what a command
calls, with an ``Rpc``, a ``terms.Deployment`` (settlement and registry address, the registry's first block, the form of
its ABI) and, for what is in the batches, an open ``fetch.BlobSources``. ``check.findings`` is the pure part of it.

``settled`` and ``merkle``: an inference, its leaf, the batch's tree; ``signatures``: RSA-PSS; ``settlements``: the two
events; ``registry`` and ``enclaves``: the registry's events by form, and the status of an enclave at any moment; ``blobs``
and ``fetch``: what is published, and where from.
"""
