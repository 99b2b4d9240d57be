"""Errors of this room."""


class StatesError(ValueError):
    """There is no map of these steps; the text says why and what to do."""
