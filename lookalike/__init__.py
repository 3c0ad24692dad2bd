"""Self-supervised similarity search for large scientific data sets."""

__version__ = "0.1.0"
