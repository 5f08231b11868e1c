"""A store that was searched in, shared with the tests of the store."""

from tests.store.conftest import searched

__all__ = ["searched"]
