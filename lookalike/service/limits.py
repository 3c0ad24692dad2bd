"""The service's limits, as named settings: what one request may ask for, stated by GET /v1/index."""

from __future__ import annotations

from pydantic import Field

from lookalike.config import Config


class Limits(Config):
    """What one request may ask for; a request beyond a limit is refused with the limit and the value given."""

    max_k: int = Field(default=1000, ge=1, description="neighbors in one answer")
    max_offset: int = Field(default=100_000, ge=0, description="neighbors skipped before the first of an answer")
    max_columns: int = Field(default=64, ge=1, description="catalog columns in one answer")
    min_picture: int = Field(default=16, ge=1, description="smallest side of a thumbnail, px")
    max_picture: int = Field(default=1024, ge=1, description="largest side of a thumbnail, px")
    max_sheet_objects: int = Field(default=100, ge=1, description="thumbnails on one contact sheet")
    max_sheet_pixels: int = Field(default=16_000_000, ge=1, description="pixels of one contact sheet")
    max_sheet_columns: int = Field(default=100, ge=1, description="thumbnails side by side on a contact sheet")
    max_seed: int = Field(default=2**63 - 1, ge=0, description="largest seed of a random object")
    live_searches: int = Field(default=2, ge=1, description="searches through all vectors at the same time")
    live_wait: int = Field(default=10, ge=0, description="longest wait for such a search to begin, s")
    picture_cache_bytes: int = Field(default=64 * 2**20, ge=0, description="memory for finished pictures, bytes")
