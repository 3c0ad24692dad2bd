"""What the routes work on once the index is open: searcher, pictures, and the answers as typed models."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import PIL
from starlette.concurrency import run_in_threadpool

import lookalike
from lookalike.about import CATALOG
from lookalike.augmentations import get_domain
from lookalike.errors import CorruptError
from lookalike.indexer import approximate_report, audit_report
from lookalike.indexer.search import Answer, Searcher
from lookalike.indexer.windows import Window
from lookalike.service.failures import BusyError, NotReadyError
from lookalike.service.limits import Limits
from lookalike.service.models import (
    ApproximateAbout,
    AuditAbout,
    ById,
    ColumnAbout,
    IndexAnswer,
    LeftOut,
    Neighbor,
    NeighborsAnswer,
    WindowAbout,
    WindowApplied,
)
from lookalike.service.pictures import Pictures

log = logging.getLogger("lookalike.service")
Added = TypeVar("Added")


class Engine:
    """One open index, ready to answer."""

    def __init__(self, searcher: Searcher, limits: Limits) -> None:
        self.searcher, self.limits = searcher, limits
        self.samples = searcher.samples
        self.version, self.revision = searcher.version, revision(searcher)
        self.units = {name: column.unit for name, column in self.samples.columns.items()}
        self._live = asyncio.Semaphore(limits.live_searches)
        # Opens every file and sorts the ids now, in one thread: no request waits for it, races it or can be blamed.
        searcher.embeddings()
        self.samples.row(self.samples.id(0))
        about = self.samples.about
        domain = None if about.layout == CATALOG else get_domain(about.domain)
        self.pictures = Pictures(self.samples, domain, self.revision, limits)

    def object(self, name: str) -> dict[str, Any]:
        """The fields of an ObjectAnswer."""
        row = self.samples.row(name)
        return {
            "id": name,
            "row": row,
            "catalog": self.searcher.object(name),
            "units": self.units,
            "thumbnail": None
            if self.pictures.domain is None
            else f"/v1/objects/{quote(name, safe='')}/thumbnail.jpg?v={self.revision}",
            "index_version": self.version,
            "revision": self.revision,
        }

    def random(self, seed: int | None) -> dict[str, Any]:
        return self.object(self.searcher.random_id(seed))

    async def neighbors(
        self, name: str, k: int, offset: int, max_overlap: float | None, columns: Sequence[str]
    ) -> NeighborsAnswer:
        """A stored list is read at once; what reads many values or searches goes to a thread and blocks no one else."""

        def find() -> Answer:
            return self.searcher.neighbors(name, k, offset=offset, max_overlap=max_overlap, columns=columns)

        if not self.searcher.is_stored(name, k, offset=offset, max_overlap=max_overlap):
            return self.answer(await self._in_turn(find))
        return self.answer(await run_in_threadpool(find) if columns else find())

    async def _in_turn(self, find: Callable[[], Answer]) -> Answer:
        """Run a live search, of which few run at once: each reads all vectors. BusyError where none ends in time."""
        try:
            async with asyncio.timeout(self.limits.live_wait):
                await self._live.acquire()
        except TimeoutError:
            raise BusyError(
                f"{self.limits.live_searches} searches run at once, and none ended within {self.limits.live_wait} s; "
                "try again in a moment."
            ) from None
        try:
            return await run_in_threadpool(find)
        finally:
            self._live.release()

    def answer(self, found: Answer) -> NeighborsAnswer:
        """The Searcher's answer as the API's model."""
        results = [
            Neighbor(
                rank=r.rank,
                id=r.id,
                row=r.row,
                similarity=r.similarity,
                random_share=r.random_share,
                random_share_below=r.random_share_below,
                catalog=dict(r.columns),
            )
            for r in found.results
        ]
        named = results[0].catalog if results else {}
        window = found.window
        return NeighborsAnswer(
            index_version=found.index_version,
            revision=self.revision,
            query=ById(id=found.query["id"]),
            window=None
            if window is None
            else WindowApplied(**window, unit=self._unit(window["column"], window["log"])),
            source=found.source,
            k=found.k,
            offset=found.offset,
            results=results,
            left_out=LeftOut(overlapping=found.left_out, max_overlap=found.max_overlap),
            units={column: self.units[column] for column in named},
            notes=list(found.notes),
        )

    def about(self) -> IndexAnswer:
        """What is searched, for GET /v1/index."""
        searcher, about = self.searcher, self.samples.about
        return IndexAnswer(
            index_version=self.version,
            revision=self.revision,
            objects=searcher.n,
            k=searcher.k,
            window=self._window(searcher.window),
            counts=searcher.manifest["counts"],
            domain=about.domain,
            bands=list(about.bands),
            layout=about.layout,
            shape=list(self.samples.shape),
            pixel_scale=about.pixel_scale,
            source=about.source,
            license=about.license,
            stretches=self.pictures.stretches,
            has_footprints=searcher.has_footprints,
            columns={
                name: ColumnAbout(unit=column.unit, description=column.description, ucd=column.ucd)
                for name, column in self.samples.columns.items()
            },
            hashes=self._hashes(),
            audit=None if (audit := self._added(audit_report.kept)) is None else AuditAbout(**audit.to_json()),
            approximate=None
            if (stage := self._added(approximate_report.kept)) is None
            else ApproximateAbout.model_validate(stage),
            limits=self.limits,
            software=lookalike.__version__,
        )

    def examples(self) -> dict[str, str | None]:
        """Values of parameters that this index answers, as the commands at /docs give them; None to leave one out."""
        n, names = self.searcher.n, [name for name in self.samples.columns if "," not in name][:2]
        return {
            "id": self.samples.id(0),
            "ids": ",".join(self.samples.id(row) for row in range(min(n, 2))),
            "columns": ",".join(names) or None,
            **({} if self.searcher.has_footprints else {"max_overlap": None}),
        }

    def _hashes(self) -> dict[str, str]:
        parts = {name: self.searcher.manifest.get(name) for name in ("samples", "embeddings", "checkpoint")}
        return {"index": self.searcher.content_hash} | {
            name: part["content_hash"] for name, part in parts.items() if part is not None
        }

    def _added(self, kept: Callable[[Path, str, str], Added | None]) -> Added | None:
        """What was added to this very version since it was built, None if nothing was; it may come at any time."""
        try:
            return kept(self.searcher.folder, self.version, self.searcher.content_hash)
        except CorruptError as error:
            log.warning("what was added to the index is left out: %s", error)
            return None

    def _window(self, window: Window | None) -> WindowAbout | None:
        if window is None:
            return None
        return WindowAbout(**window.to_json(), unit=self._unit(window.column, window.log))

    def _unit(self, column: str, logged: bool) -> str:
        return "" if logged else self.units[column]


def revision(searcher: Searcher) -> str:
    """What an answer and a picture follow from besides the request: the data and the software, as one short token."""
    parts = [searcher.content_hash, searcher.samples.content_hash, lookalike.__version__, PIL.__version__]
    if searcher.calibration is not None:  # it follows from the index, but an older one has none
        parts.append("calibrated")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def log_failure(error: Exception) -> None:
    log.error("the index cannot be opened: %s", error)


class Loading:
    """Opens the index in a thread while the service already answers /healthz; `engine` waits for nobody.

    A failure to open is told to `on_failure`: the service cannot become ready, so whoever runs it ends it.
    """

    def __init__(
        self, load: Callable[[], Searcher], limits: Limits, on_failure: Callable[[Exception], None] = log_failure
    ) -> None:
        self._load, self._limits, self._on_failure = load, limits, on_failure
        self._engine: Engine | None = None
        self._failed = False
        self._thread: threading.Thread | None = None

    @property
    def engine(self) -> Engine:
        """The open index; NotReadyError until it is open."""
        if self._engine is None:
            raise NotReadyError(
                "The index could not be opened; the service's log says why."
                if self._failed
                else "The index is still being opened; try again in a moment."
            )
        return self._engine

    @property
    def opened(self) -> Engine | None:
        """The open index, None until it is open."""
        return self._engine

    def start(self) -> None:
        # A daemon, so that a stop during a long load does not wait for it.
        self._thread = threading.Thread(target=self._run, name="open index", daemon=True)
        self._thread.start()

    def ends(self, within: float) -> bool:
        """Whether opening is over, or not begun; waits so many seconds for it."""
        if self._thread is not None:
            self._thread.join(within)
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._engine = Engine(self._load(), self._limits)
        except Exception as error:
            self._failed = True
            self._on_failure(error)
