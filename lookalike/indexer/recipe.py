"""Recipes: a search by positive and negative examples as a JSON document that gives the same list wherever it is run.

    {"schema": 1, "index": content hash, "positives": [id], "negatives": [id], "method": "mean" | "linear", "beta": 0.5,
     "windows": [{"column": "mag" | "log(size)", "center": number | null, "half_width": 0.5}], "where": text | null,
     "k": 100}

mean   : normalize(mean of the positives − beta · mean of the negatives), in float64.
linear : the weights of an L2-regularized logistic regression of positives against negatives, normalized: those w and b
         that minimize |w|²/2 + Σ log(1 + exp(−y·(w·x + b))) (C = 1; b is free), in float64.

A window's center null stands for the positives' own values: within half_width of any of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lookalike.config import Config
from lookalike.errors import InputError, NotFoundError
from lookalike.files import file_output, write_json
from lookalike.indexer.windows import Window

Method = Literal["mean", "linear"]
MOST, BYTES = 10_000, 2**24  # examples of either kind, and a file's length
# The gradient that the fit ends at; its last step squares the error, so that float32 weights are settled.
SETTLED = 1e-12
LEAST = 1e-9  # a direction of smaller numbers is the rounding of examples that cancel out


class RecipeWindow(Config):
    """One window: its column, or the log of one, and its center, None for the positives' own values."""

    column: str
    center: float | None = None
    half_width: float

    @model_validator(mode="after")
    def _is_window(self) -> Self:
        try:
            _ = self.window
        except InputError as error:
            raise ValueError(error.message.removesuffix(".")) from None
        return self

    @property
    def window(self) -> Window:
        return Window.parse(f"{self.column}:{self.half_width!r}")


class Recipe(Config):
    """What to search for, in the index of this content hash."""

    schema_version: Literal[1] = Field(1, alias="schema")
    index: str
    positives: tuple[str, ...] = Field(min_length=1, max_length=MOST)
    negatives: tuple[str, ...] = Field((), max_length=MOST)
    method: Method = "mean"
    beta: float = Field(0.5, ge=0)
    windows: tuple[RecipeWindow, ...] = ()
    where: str | None = None
    k: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_a_question(self) -> Self:
        examples = (*self.positives, *self.negatives)
        seen: set[str] = set()
        for name in examples:
            if name in seen:
                msg = f"an example is positive or negative, and named once, but {name!r} is named twice"
                raise ValueError(msg)
            seen.add(name)
        if self.method == "linear" and not self.negatives:
            msg = "method linear tells positives from negatives, but no negative was given; add one, or use mean"
            raise ValueError(msg)
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """A recipe from its file; NotFoundError, or InputError that names the file and what is wrong in it."""
        if not path.is_file():
            raise NotFoundError(f"No such recipe: {path}")
        if path.stat().st_size > BYTES:
            raise InputError(f"A recipe has at most {BYTES:,} bytes, but {path} has {path.stat().st_size:,}.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is no JSON document: {error}") from None
        if not isinstance(values, dict) or "schema" not in values:
            raise InputError(f'{path} is no recipe: it holds no "schema".')
        try:
            return cls.checked(values)
        except InputError as error:
            raise InputError(f"{path} is no recipe of ours. {error.message}", code="invalid_recipe") from None

    def write(self, path: Path) -> None:
        self.check_output(path, self)
        write_json(path, self.to_json())

    @classmethod
    def check_output(cls, path: Path, recipe: Recipe | None = None) -> None:
        """InputError where another file than this recipe, or than any, would be lost to a recipe written to `path`."""
        if not file_output(path).exists():
            return
        try:
            other = cls.read(path)
        except InputError:
            raise InputError(f"{path} is there already and is no recipe; choose another name.") from None
        if recipe is not None and other != recipe:
            raise InputError(f"{path} holds another recipe already; choose another name, or remove it first.")

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    def vector(self, positives: NDArray[Any], negatives: NDArray[Any]) -> NDArray[np.float64]:
        """The direction to search in (D,), of any length, from stored vectors (p, D) and (m, D) in order of rows."""
        good, bad = positives.astype(np.float64), negatives.astype(np.float64)
        found = fit_linear(good, bad) if self.method == "linear" else _mean(good, bad, self.beta)
        if np.abs(found).max() < LEAST:
            raise InputError("These examples cancel out: they point in no direction to search in.", code="zero_vector")
        return found


def _mean(positives: NDArray[np.float64], negatives: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = positives.mean(axis=0)
    return mean - beta * negatives.mean(axis=0) if len(negatives) else mean


def fit_linear(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights (D,) of the logistic regression of positives (p, D) against negatives (m, D)."""
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([positives, negatives])  # (p + m, D)
    # The weights are a sum of examples: in the span's own coordinates the same fit has p + m of them, not D.
    basis, inside = np.linalg.qr(x.T)  # (D, r), (r, p + m)
    y = np.repeat([1, 0], [len(positives), len(negatives)])
    fit = LogisticRegression(C=1.0, solver="newton-cholesky", tol=SETTLED, max_iter=1000).fit(inside.T, y)
    weights: NDArray[np.float64] = basis @ fit.coef_[0]
    return weights
