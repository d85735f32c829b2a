"""The dashboard: pages made on the server, over the same reads as the API. ``add`` puts them into an application."""

from challenger.web.pages.frame import add

__all__ = ["add"]
