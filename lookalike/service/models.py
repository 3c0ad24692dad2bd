"""What the API answers, as typed models: the OpenAPI document, with examples and units, is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookalike.service.limits import Limits

Value = float | int | str | None

Revision = Annotated[
    str,
    Field(
        description="changes with the content of index or samples and with the software: key your caches on it",
        examples=["6f1d0c2b9ae45873"],
    ),
]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Model):
    code: str = Field(description="stable and machine-readable", examples=["unknown_id"])
    message: str = Field(
        description="the rule, the value given, the choices",
        examples=["No object has the id 'xdf-9'; this data set holds 1,243 objects. Did you mean 'xdf-00009'?"],
    )
    detail: Any = Field(None, description="for invalid_request, one entry per fault: parameter, rule, given")
    request_id: str = Field(description="the same as the header X-Request-ID", examples=["5f0c2a9be1d37744"])


class Failure(Model):
    """The one shape of every error."""

    error: Problem


class Health(Model):
    status: Literal["ok"] = "ok"


class Ready(Model):
    ready: Literal[True] = True
    index_version: str = Field(examples=["v000001"])


class ColumnAbout(Model):
    """A catalog column."""

    unit: str = Field(description="empty where the quantity has none", examples=["mag"])
    description: str = Field(examples=["Instrumental magnitude, zero point 25"])
    ucd: str = Field("", description="IVOA unified content descriptor, where one exists", examples=["phot.mag"])


class WindowAbout(Model):
    """Which objects may be neighbors: |x_j − x_i| <= half_width, x the column or its natural logarithm."""

    column: str = Field(examples=["mag"])
    log: bool = Field(False, description="whether x is the logarithm of the column")
    half_width: float = Field(examples=[0.5], description="in the unit of the column, or of its logarithm")
    unit: str = Field("", examples=["mag"], description="unit of half_width; empty for a logarithm")


class WindowApplied(WindowAbout):
    """The window one answer was found in, applied before ranking."""

    center: float | None = Field(
        description="the query's own value of the column, before any logarithm; null where undefined", examples=[24.31]
    )


class ObjectAnswer(Model):
    """One object: its row of the catalog."""

    id: str = Field(examples=["xdf-00417"])
    row: int = Field(description="position in the samples, from 0", examples=[416])
    catalog: dict[str, Value] = Field(
        description="value by column, units in `units`; null where undefined",
        examples=[{"x": 512.25, "y": 803.5, "mag": 24.31, "size": 4.8}],
    )
    units: dict[str, str] = Field(
        description="unit by column, empty where the quantity has none",
        examples=[{"x": "px", "y": "px", "mag": "mag", "size": "px"}],
    )
    thumbnail: str | None = Field(
        description="address of its picture, with the revision, so that it never changes; null where nothing is "
        "stored that could be drawn",
        examples=["/v1/objects/xdf-00417/thumbnail.jpg?v=6f1d0c2b9ae45873"],
    )
    index_version: str = Field(examples=["v000001"])
    revision: Revision


class RandomAnswer(ObjectAnswer):
    """One object drawn at random."""

    seed: int | None = Field(description="the same seed draws the same object", examples=[7])


class Neighbor(Model):
    """One object of a list, most similar first."""

    rank: int = Field(description="from 1; continues through pages", examples=[1])
    id: str = Field(examples=["xdf-00093"])
    row: int = Field(examples=[92])
    similarity: float = Field(
        description="dot product of the two stored vectors, −1 to 1, as the shortest decimal of its float32",
        examples=[0.9731294],
    )
    random_share: float | None = Field(
        description="share of random pairs within such a window that are at least as similar, 0 to 1; null where "
        "unknown",
        examples=[0.0012],
    )
    random_share_below: bool = Field(
        description="whether it is less than random_share, the least that can be told", examples=[False]
    )
    catalog: dict[str, Value] = Field(
        description="the columns asked for; null where undefined", examples=[{"mag": 24.22}]
    )


class ById(Model):
    """A query that names an object."""

    id: str = Field(examples=["xdf-00417"])


class LeftOut(Model):
    """What an answer does not show, though it is similar enough."""

    overlapping: int = Field(
        description="objects that would have ranked above the last result, but share more than max_overlap of the "
        "query's footprint",
        examples=[2],
    )
    max_overlap: float | None = Field(description="share of the query's footprint, 0 to 1; null: none are left out")


class NeighborsAnswer(Model):
    """The objects most similar to one, most similar first; equal ones by row. The object itself is no result."""

    index_version: str = Field(examples=["v000001"])
    revision: Revision
    query: ById
    window: WindowApplied | None = Field(description="null where any object may be a neighbor")
    source: Literal["stored", "live"] = Field(
        description="`stored`: read from the index; `live`: the stored list ran short and was finished by a search"
    )
    k: int = Field(description="neighbors asked for; fewer come where the window holds fewer", examples=[20])
    offset: int = Field(description="neighbors skipped", examples=[0])
    results: list[Neighbor]
    left_out: LeftOut
    units: dict[str, str] = Field(description="unit of each catalog column asked for", examples=[{"mag": "mag"}])
    notes: list[str] = Field(description="sentences a person should see")


class AuditChosen(Model):
    """How many lists were recomputed for which reason; one may have been for several."""

    random: int = Field(examples=[1000])
    ends: int = Field(description="first and last, by row and in the window's order", examples=[4])
    edge: int = Field(description="with an object on the window's edge, or one step beside it", examples=[100])
    short: int = Field(description="with fewer neighbors than k", examples=[25])
    without_value: int = Field(description="in no window, for want of a value", examples=[1])


class AuditAbout(Model):
    """What `lookalike verify` last checked of this very version, and found right."""

    version: str = Field(examples=["v000001"])
    content_hash: str = Field(description="of the index that was checked")
    n: int = Field(description="objects", examples=[1243])
    k: int = Field(examples=[100])
    files: int = Field(description="hashed byte by byte", examples=[3])
    lists: int = Field(description="checked against the rules every list obeys", examples=[1243])
    recomputed: int = Field(description="lists compared with brute force over all objects", examples=[1100])
    chosen: AuditChosen
    recall: float = Field(description="share of the recomputed neighbors that are stored", examples=[1.0])
    equal_similarities: float = Field(description="share of similarities with equal bits", examples=[1.0])
    largest_difference: float = Field(description="between a stored and a recomputed similarity", examples=[0.0])
    ties_at_k: int = Field(
        description="recomputed lists whose last similarity is also that of an object left out for its row",
        examples=[0],
    )
    seed: int = Field(description="of the random rows", examples=[0])
    seconds: float = Field(examples=[12.5])
    notes: list[str]


class RecallAbout(Model):
    """Recall@k of the approximate stage over held-out objects, with Wilson's 95 % interval."""

    k: int = Field(examples=[100])
    value: float = Field(examples=[0.957])
    low: float = Field(examples=[0.935])
    high: float = Field(examples=[0.972])
    queries: int = Field(examples=[500])


class ApproximateAbout(Model):
    """What `lookalike approximate` made for this very version: a first stage for searches of large sets."""

    version: str = Field(examples=["v000001"])
    content_hash: str = Field(description="of the index it is of")
    n: int = Field(description="objects", examples=[1000000])
    cells: int = Field(description="that the objects are divided among", examples=[1000])
    probes: int = Field(description="cells a search looks into", examples=[12])
    target: float = Field(description="recall that probes was chosen for", examples=[0.95])
    k: int = Field(description="results that this recall is of", examples=[100])
    seed: int = Field(examples=[0])
    recall: list[RecallAbout]
    bytes: int = Field(description="of the stage's file", examples=[6100000])


class IndexAnswer(Model):
    """What is searched: the data, the index, and what one request may ask for."""

    index_version: str = Field(examples=["v000001"])
    revision: Revision
    objects: int = Field(examples=[1243])
    k: int = Field(description="neighbors stored for each object", examples=[100])
    window: WindowAbout | None
    counts: dict[str, int] = Field(description="what the build counted, such as objects with no neighbor")
    domain: str = Field(examples=["galaxy"])
    bands: list[str] = Field(examples=[["r", "g", "b"]])
    layout: str = Field(
        description="what is stored of each object: images, particles or features; catalog where there are ids and "
        "columns alone, and no pictures"
    )
    shape: list[int] = Field(
        description="of one object: bands, height, width in px; particles, numbers of each; numbers; or nothing",
        examples=[[3, 52, 52]],
    )
    pixel_scale: float | None = Field(description="arcsec/px, null where unknown", examples=[0.06])
    source: str = Field(description="where the data come from")
    license: str = Field(description="terms of the data")
    stretches: list[str] = Field(description="names thumbnails accept, the first is the default; none: no pictures")
    has_footprints: bool = Field(description="whether footprints are known, so that max_overlap can be given")
    columns: dict[str, ColumnAbout]
    hashes: dict[str, str] = Field(description="content hash of index, embeddings, samples, checkpoint")
    audit: AuditAbout | None = Field(
        description="the last check against the definition; null where none was made of this version"
    )
    approximate: ApproximateAbout | None = Field(
        description="the approximate first stage, its settings and measured recall; null where none was built"
    )
    limits: Limits
    software: str = Field(description="version of lookalike", examples=["0.1.0"])
