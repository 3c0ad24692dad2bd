"""Is an encoder blind to what it was trained to ignore? Augmented copies looked for among originals, and the reverse.

Stein et al. (2021), arXiv:2110.13151, section 4: an augmented copy is "nearly always" the most similar object to its
original, for the layer before the projection head and the one after it alike. Here as numbers, for each augmentation
alone and for all together, beside an untrained encoder, raw pixels and hand-made features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike.about import FEATURES, IMAGES
from lookalike.augmentations import get_domain
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.draws import Draws
from lookalike.augmentations.inputs import encoder_input
from lookalike.augmentations.jet_image import JetImage
from lookalike.augmentations.preprocess import Preprocess, Seen, central
from lookalike.errors import InputError
from lookalike.indexer.footprints import Footprints
from lookalike.probes.checks import ODDS
from lookalike.probes.crowding import crowded, off_center
from lookalike.probes.describe import Describer, Vectors, comparable
from lookalike.probes.faults import Flag, Judged, flags_of, judged
from lookalike.probes.number_features import number_change, spreads
from lookalike.probes.retrieval import compared, nearest, overlap
from lookalike.probes.scores import K, Scores, scored
from lookalike.probes.steps import alone, chosen, with_extra
from lookalike.progress import progress
from lookalike.samples import Samples
from lookalike.ssl.batches import Batches
from lookalike.ssl.checkpoint import CheckpointConfig
from lookalike.ssl.embed import check_fits
from lookalike.wording import counted

Rows = NDArray[np.int64]
COPY_EPOCH = -1  # training counts epochs from 0, so no copy here was ever a training view
OBJECTS = 5000  # measured by default, of more a random part
FITTED = 5000  # objects whose numbers' spread is taken
BLOCK_BYTES = 64 * 2**20  # of stored pictures augmented at once
TOGETHER = "all"


@dataclass
class Invariance:
    """What was measured: scores[description][augmentation], in the order of the augmentations, `all` last.

    crowded : the same of the objects alone that `crowded_objects` (M,) says are in crowded cutouts (places in `rows`);
    empty where there are none, or where the pictures' center is not an object's.
    """

    samples: Samples
    checkpoint: Path
    checkpoint_hash: str
    rows: Rows
    steps: list[str]
    without: list[str]
    scores: dict[str, dict[str, Scores]]
    crowded: dict[str, dict[str, Scores]]
    crowded_objects: Rows
    pixel_change: dict[str, float]
    judged: Judged
    flags: list[Flag]
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def of_numbers(self) -> bool:
        """Whether objects are records or lists of particles, and no pixels of anything."""
        return self.samples.about.layout != IMAGES and self.samples.about.domain != "jet"

    @property
    def described(self) -> list[str]:
        """The descriptions to show: of records the hand-made one is the numbers once more."""
        same = self.samples.about.layout == FEATURES
        return [name for name in self.scores if not (same and name == "hand_features")]


def measure(
    samples_paths: Sequence[Path],
    checkpoint: Path,
    *,
    objects: int = OBJECTS,
    without: Sequence[str] = (),
    extra: Sequence[str] = (),
    max_overlap: float = 0.25,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
) -> Invariance:
    """Measure the invariance of a checkpoint on the objects of a data set.

    objects : at most so many are measured, a random part by `seed`. without : the steps that are off in the
    checkpoint's settings; each must be named, since “all” would otherwise promise what was not done. extra : steps
    that are off by default, measured though the encoder was not trained with them. max_overlap : objects covering
    more of a footprint than this do not compete with it. Each object is augmented and embedded once per
    augmentation, with the same draws alone and together; drawn anew, they are no training views.

    InputError where the data are not the encoder's, fewer than 2 objects are there or all overlap, a step is off and
    not named, or an augmentation gives pixels that are not finite.
    """
    samples = Samples(list(samples_paths))
    if len(samples) < 2 or objects < 2:
        raise InputError(f"At least 2 objects are compared, but there are {min(len(samples), objects)}.")
    describer = Describer(checkpoint, device)
    names, notes = describer.names, check_fits(samples, describer.config, checkpoint) + describer.notes
    domain = get_domain(describer.config.domain)
    settings, whole, told = _settings(domain, describer.config, samples)
    notes += told
    settings, told = with_extra(settings, _defaults(domain, samples)[0], extra, checkpoint)
    notes += told
    steps, off = chosen(settings, without, checkpoint)
    steps, told = _own(steps, settings)
    notes += told
    rows = _some(len(samples), objects, seed)
    if len(rows) < len(samples):
        notes.append(f"objects: {len(rows):,} of {len(samples):,}, a random part by seed {seed} (--objects).")
    left_out = None
    if samples.about.layout == IMAGES or describer.config.domain == "jet":
        left_out, told = _barred(samples, rows, describer.config.preprocess.size, max_overlap)
        notes += told
    copies = Copies(samples, rows, describer, settings, whole, seed)
    scores: dict[str, dict[str, Scores]] = {name: {} for name in names}
    in_crowds: dict[str, dict[str, Scores]] = {name: {} for name in names}
    change: dict[str, float] = {}
    with progress("invariance", len(rows) * (len(steps) + 2), "copies", quiet=quiet) as advance:
        stored, shares = copies.originals(advance)
        places = np.flatnonzero(crowded(shares)) if domain.name == "galaxy" else np.empty(0, np.int64)
        lists = {name: nearest(comparable(name, stored[name], stored[name]), left_out, k=K) for name in names}
        for augmentation in [*steps, TOGETHER]:
            on = steps if augmentation == TOGETHER else [augmentation]
            made, change[augmentation] = copies.augmented(on, augmentation, advance)
            for name in names:
                base, queries = (comparable(name, stored[name], vectors[name]) for vectors in (stored, made))
                found = compared(base, queries, left_out, k=K)
                overlaps = overlap(lists[name], found.copy_lists)
                scores[name][augmentation] = scored(found, overlaps)
                if (found.rivals[places] > 0).any():
                    in_crowds[name][augmentation] = scored(found.at(places), overlaps[places])
    numbers = not copies.of_pixels
    blind = [step for step in steps if step in describer.config.preprocess.blind]
    if blind:
        notes.append(f"{', '.join(blind)}: cannot change the encoder's input alone, and is not called dead for it.")
    verdict = judged(domain, samples, rows, describer.config, settings, steps)
    separation = {step: max(scores[name][step].separation for name in names) for step in [*steps, TOGETHER]}
    return Invariance(
        samples,
        checkpoint,
        describer.config.content_hash,
        rows,
        steps,
        off,
        scores,
        in_crowds if in_crowds[names[0]] else {},
        places,
        change,
        verdict,
        flags_of(change, separation, verdict.checks, [step for step in steps if step not in blind], of_numbers=numbers),
        {"seed": seed, "max_overlap": max_overlap, "odds": ODDS, "device": str(describer.device)},
        notes + verdict.notes,
    )


def _own(steps: list[str], settings: Any) -> tuple[list[str], list[str]]:
    """The steps that change an object by itself, and a note of the others."""
    alike = [step for step in steps if getattr(getattr(settings, step), "shared", False)]
    if not alike:
        return steps, []
    note = "training does so to all objects of an epoch alike, so nothing learns to be the same under it; not measured."
    return [step for step in steps if step not in alike], [f"{', '.join(alike)}: {note}"]


@dataclass
class Copies:
    """The chosen rows' pictures and their augmented copies, described block by block.

    whole : whether the steps change the encoder's whole crop, and not the stored picture that it is cut from.
    """

    samples: Samples
    rows: Rows
    describer: Describer
    settings: Any
    whole: bool
    seed: int
    spread: NDArray[np.float64] | None = None  # (F,) of the numbers of records or particles

    def __post_init__(self) -> None:
        self.domain = get_domain(self.describer.config.domain)
        columns = self.domain.columns(self.settings, self.samples.about.bands, frozenset(self.samples.columns))
        self.batches = Batches(self.samples, columns, self.describer.device)
        # Other objects than training pasted, as its copies are no training views.
        self.bank = self.domain.bank(self.samples, self.settings, self.seed, COPY_EPOCH)
        bytes_each = 4 * int(np.prod(self.samples.shape))
        self.block = max(16, min(256, BLOCK_BYTES // bytes_each))

    def originals(self, advance: Callable[[int], object]) -> tuple[Vectors, NDArray[np.float64]]:
        """The originals as the index sees them, (N, D) by description, and the share of their light off center (N,)."""
        seen_as = self.describer.config.preprocess
        if self.samples.dtype != np.uint8 and isinstance(seen_as, Preprocess):
            self.describer.top = self._top()
        parts: list[Vectors] = []
        shares = []
        for rows in self._blocks():
            images, _ = self.batches.fetch(rows)  # (B, C, H, W)
            seen = _central(images, seen_as)
            parts.append(self.describer(seen))
            shares.append(off_center(seen.cpu().numpy()) if isinstance(seen_as, Preprocess) else np.zeros(len(rows)))
            advance(len(rows))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, np.concatenate(shares)

    def augmented(self, steps: Sequence[str], name: str, advance: Callable[[int], object]) -> tuple[Vectors, float]:
        """The copies with these steps on, (N, D) by description, and how much their pixels changed."""
        on, off = alone(self.settings, *steps), alone(self.settings)
        parts: list[Vectors] = []
        changes = []
        for rows in self._blocks():
            images, catalog = self.batches.fetch(rows)  # (B, C, H, W), {column: (B,)}
            if self.whole:
                images = _central(images, self.describer.config.preprocess)
            draws = Draws(self.seed, COPY_EPOCH, torch.from_numpy(rows).to(images.device), view=0)
            copies = self.domain.view(images.clone(), catalog, draws, on, self.bank)  # (B, C, h, w)
            plain = self.domain.view(images, catalog, draws, off)
            if bool((plain.isfinite() & ~copies.isfinite()).any()):  # an undefined number of a record stays so
                what = "pixels" if self.of_pixels else "numbers"
                raise InputError(f"Augmented copies have finite {what}, but {name} gives some that are not.")
            changes.append(self._change(copies, plain))
            parts.append(self.describer(copies))
            advance(len(rows))
        vectors = {each: np.concatenate([part[each] for part in parts]) for each in parts[0]}
        change = np.concatenate(changes)
        return vectors, float(np.mean(change[np.isfinite(change)])) if np.isfinite(change).any() else 0.0

    @property
    def of_pixels(self) -> bool:
        return isinstance(self.describer.config.preprocess, Preprocess | JetImage)

    def _change(self, copies: torch.Tensor, plain: torch.Tensor) -> NDArray[np.float64]:
        """How much the copies (B,) differ from the plain views: in pixels, or in the numbers that are stored."""
        if self.of_pixels:
            return pixel_change(*(_as_pixels(each, self.describer.config.preprocess) for each in (copies, plain)))
        if self.spread is None:
            self.spread = spreads(self.samples.objects(self.rows[:FITTED]))
        return number_change(copies, plain, self.spread)

    def _blocks(self) -> list[Rows]:
        return [self.rows[start : start + self.block] for start in range(0, len(self.rows), self.block)]

    def _top(self) -> float:
        """The brightness that one pixel in a thousand exceeds, of some originals."""
        images = self.samples.objects(self.rows[: self.block])
        return float(max(np.quantile(images, 0.999), np.finfo(np.float32).tiny))


def pixel_change(copies: torch.Tensor, plain: torch.Tensor) -> NDArray[np.float64]:
    """How far each copy's pixels are from the plain view's, (B,): root mean square over the view's own contrast.

    The contrast is the standard deviation of its pixels about each band's mean; NaN where it has none.
    """
    difference = (copies.double() - plain.double()).square().mean(dim=(1, 2, 3)).sqrt()  # (B,)
    contrast = plain.double().var(dim=(2, 3), correction=0).mean(dim=1).sqrt()  # (B,)
    return torch.where(contrast > 0, difference / contrast, torch.nan).cpu().numpy()


def _settings(domain: Domain, config: CheckpointConfig, samples: Samples) -> tuple[Any, bool, list[str]]:
    """The augmentations to measure: the checkpoint's, or where it names none the domain's for these samples.

    Besides, `whole` of Copies, and notes.
    """
    if config.augment:
        return domain.settings_type.checked(config.augment), False, []
    stored = samples.size
    settings: Any
    settings, notes = _defaults(domain, samples)
    told = "augmentations: the checkpoint names none, as one trained elsewhere does not; measured are those that "
    # The views must be as large as the encoder was made for.
    return (
        settings.changed({"size": config.preprocess.size}),
        settings.size == stored,
        [
            f"{told}`lookalike train` would use for these samples, in views of {config.preprocess.size} px.",
            *(note for note in notes if not note.startswith("views:")),
        ],
    )


def _defaults(domain: Domain, samples: Samples) -> tuple[Any, list[str]]:
    """What `lookalike train` would use for these samples, and notes."""
    stored, columns = samples.size, frozenset(samples.columns)
    return domain.settings(samples.about, stored, columns, str(samples.dtype))


def _some(n: int, objects: int, seed: int) -> Rows:
    """All rows, or a random part of them, increasing."""
    if n <= objects:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, objects, replace=False))


def _barred(samples: Samples, rows: Rows, size: int, limit: float) -> tuple[list[Rows] | None, list[str]]:
    """For each chosen object the places among them of those that overlap it, as in the demo; and notes."""
    footprints, why_not = Footprints.of(samples, size)
    if footprints is None:
        return None, [why_not]
    here = Footprints(footprints.across[rows], footprints.along[rows], footprints.size, footprints.sky)
    barred = [here.overlapping(place, limit) for place in range(len(rows))]
    pairs = sum(len(others) for others in barred)
    notes = []
    if pairs:
        does = "does" if pairs == 1 else "do"
        overlapping = counted(pairs, "pair overlaps", "pairs overlap")
        notes.append(f"footprints: {overlapping} by more than {limit:.0%} and {does} not compete.")
    lonely = sum(len(others) == len(rows) - 1 for others in barred)
    if lonely == len(rows):
        raise InputError(
            f"An object competes with others, but all {len(rows):,} overlap each other by more than {limit:.0%}; "
            "give a larger --max-overlap."
        )
    if lonely:
        notes.append(
            f"footprints: {counted(lonely, 'object overlaps', 'objects overlap')} every other; "
            f"all scores but {'its' if lonely == 1 else 'their'} cosines leave {'it' if lonely == 1 else 'them'} out."
        )
    return barred, notes


def _as_pixels(views: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Views as pictures: what they are, or the images of the jets whose constituents they are."""
    return views if isinstance(seen, Preprocess) else encoder_input(views, seen)


def _central(images: torch.Tensor, seen: Seen) -> torch.Tensor:
    """The crop of stored pictures that the encoder is given; constituents as they are."""
    if not isinstance(seen, Preprocess):
        return images
    return central(images, seen.size)
