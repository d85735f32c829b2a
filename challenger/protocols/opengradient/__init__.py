"""OpenGradient, which has no dispute on chain: the watcher audits it and reports."""
