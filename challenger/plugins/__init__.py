"""Protocols as plugins: what one must have (``registry``), what its adapter must do (``kit``), and ours."""
