"""The HTTP API over an index folder."""
