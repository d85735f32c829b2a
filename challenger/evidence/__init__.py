"""Evidence bundles: one file by which a stranger re-checks a verdict on another machine, offline (docs/evidence.md)."""
