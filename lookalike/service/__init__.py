"""The HTTP API: objects, neighbors and pictures of one index, without torch or faiss."""

from lookalike.service.app import create_app
from lookalike.service.limits import Limits
from lookalike.service.server import serve

__all__ = ["Limits", "create_app", "serve"]
