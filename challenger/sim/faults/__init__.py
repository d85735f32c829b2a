"""A world that breaks on purpose: seeded, repeatable faults of endpoints, chain, database, workers and process."""
