"""Checking the record: for us, and for those who do not trust us."""
