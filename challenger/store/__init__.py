"""The record in SQL: what the chain said, where each commitment stands with us, and the journal of both."""

from challenger.store.engine import Store, open_store
from challenger.store.index import Index
from challenger.store.outbox import Outbox
from challenger.store.subjects import subject_of
from challenger.store.unit import Unit, View

__all__ = ["Index", "Outbox", "Store", "Unit", "View", "open_store", "subject_of"]
