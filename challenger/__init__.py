"""A watchtower for AI inference that is committed on chain."""
