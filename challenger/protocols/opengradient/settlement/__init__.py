"""The settlement of OpenGradient's LLM path, audited: batches, signatures, enclaves, blobs."""
