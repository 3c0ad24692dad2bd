"""Pictures for people: one object's thumbnail, or many on one contact sheet, as JPEG, kept while memory allows."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from lookalike.errors import InputError, NotFoundError, unknown
from lookalike.service.limits import Limits

if TYPE_CHECKING:
    from lookalike.augmentations.domain import Domain
    from lookalike.samples import Samples

QUALITY = 90
NO_PICTURES = "no_pictures"  # code of an error


class Pictures:
    """Draws stored objects as their domain draws them; without a domain there is nothing to draw, and no stretches.

    A finished picture is kept by its name, least recently used out first, within `limits.picture_cache_bytes`.
    """

    def __init__(self, samples: Samples, domain: Domain | None, revision: str, limits: Limits) -> None:
        self.samples, self.domain, self.revision, self.limits = samples, domain, revision, limits
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.stretches = [name for name in domain.stretches if self._suits(name)] if domain is not None else []

    def _suits(self, stretch: str) -> bool:
        """Whether these data can be drawn so: some stretches need fluxes in certain bands, some 8-bit values."""
        try:
            self._draw([0], self.limits.min_picture, stretch)
        except InputError:
            return False
        return True

    def stretch(self, name: str | None) -> str:
        """The stretch asked for, or the default, the first; an unknown one is an InputError with the choices.

        NotFoundError ("no_pictures") where nothing is stored that could be drawn.
        """
        if self.domain is None:
            raise NotFoundError(
                "This index is of vectors and a table: nothing is stored of its objects that could be drawn. Their "
                "columns are at /v1/objects/{id}.",
                code=NO_PICTURES,
            )
        if name is None:
            return self.stretches[0]
        if name not in self.stretches:
            raise unknown("stretch", name, self.stretches)
        return name

    def etag(self, *parts: object) -> str:
        """A strong ETag: the picture follows from the revision (data and drawing software) and the request."""
        text = repr((self.revision, *parts))
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'

    def thumbnail(self, name: str, size: int, stretch: str) -> bytes:
        """One object as a JPEG of size x size px."""
        row = self.samples.row(name)
        return self._made(f"{row} {size} {stretch}", lambda: self._draw([row], size, stretch)[0])

    def sheet(self, rows: Sequence[int], size: int, columns: int, stretch: str) -> bytes:
        """Objects in reading order on one JPEG: `columns` cells of size x size px side by side, unused cells black."""
        height = -(-len(rows) // columns) * size
        if columns * size * height > self.limits.max_sheet_pixels or max(columns * size, height) > 65_000:
            raise InputError(
                f"A contact sheet holds up to {self.limits.max_sheet_pixels:,} pixels and 65,000 to a side, "
                f"but {columns * size} x {height} was asked for; choose a smaller size or fewer ids.",
                code="sheet_too_large",
            )

        def make() -> Image.Image:
            sheet = Image.new("RGB", (columns * size, height))
            for place, picture in enumerate(self._draw(rows, size, stretch)):
                sheet.paste(picture, (place % columns * size, place // columns * size))
            return sheet

        return self._made(f"{rows} {size} {columns} {stretch}", make)

    def _draw(self, rows: Sequence[int], size: int, stretch: str) -> list[Image.Image]:
        assert self.domain is not None  # else `stretch` has refused
        images = self.samples.objects(rows)  # (B, C, H, W)
        draw = self.domain.draw
        return [_square(draw(image, self.samples.about, stretch, size), size) for image in images]

    def _made(self, key: str, make: Callable[[], Image.Image]) -> bytes:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        file = io.BytesIO()
        # Full color resolution: halved, small saturated sources lose their hue.
        make().save(file, "JPEG", quality=QUALITY, subsampling=0)
        data = file.getvalue()
        self._keep(key, data)
        return data

    def _keep(self, key: str, data: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > self.limits.picture_cache_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])


def _square(picture: Image.Image, size: int) -> Image.Image:
    """The picture in the middle of a black square; its longer side is already `size` px."""
    square = Image.new("RGB", (size, size))
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square
