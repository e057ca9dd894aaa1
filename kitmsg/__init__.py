"""Go kit for Python, on a message bus."""

__version__ = "0.1.0"
