"""The canonical operators: one specification (``spec``), two backends that share no kernel code."""
