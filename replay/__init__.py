"""Deterministic inference verification: a model as data, exact operators, one bit of difference is proof."""
