"""The schema's history, shipped with the program: ``challenger db upgrade`` runs it."""
