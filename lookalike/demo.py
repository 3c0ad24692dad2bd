"""The whole job on real galaxies, from the Hubble eXtreme Deep Field picture to a page to click through.

Every stage looks at what is already there and keeps it if it was made from the same inputs with the same
settings; content hashes decide, never a file's mere existence.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lookalike import __version__
from lookalike.embeddings import Embeddings
from lookalike.errors import LookalikeError, StoppedError
from lookalike.files import lock, read_json, write_json
from lookalike.hashing import content_hash
from lookalike.onnx_files import file_hash
from lookalike.provenance import read_record
from lookalike.samples import Samples
from lookalike.wording import counted

if TYPE_CHECKING:
    from lookalike.indexer.search import Searcher
    from lookalike.proportions import Share
    from lookalike.ssl.settings import TrainConfig

    Scores = dict[str, dict[str, Share]]  # {representation: {"all", "brighter third"}}

K_NEIGHBORS = 100
WINDOW = "mag:0.5"
ENCODER, EPOCHS = "resnet10", 45  # some two minutes on two cores, up to three on slow ones
SHOWN_QUERIES, SHOWN_NEIGHBORS = 8, 9


@dataclass(frozen=True)
class Demo:
    """What the demo is asked to do, and where it keeps things."""

    out: Path
    epochs: int | None = None
    seed: int = 0
    max_overlap: float = 0.25
    port: int = 8000
    app_port: int = 8501
    serve: bool = True
    pretrained: Path | None = None  # a released encoder, in place of training one

    @property
    def samples(self) -> Path:
        return self.out / "samples.h5"

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoints" / ("hubble" if self.pretrained is None else self.pretrained.name)

    @property
    def embeddings(self) -> Path:
        return self.out / "embeddings.h5"

    @property
    def index(self) -> Path:
        return self.out / "index"

    @property
    def scores(self) -> Path:
        return self.out / "scores.json"

    @property
    def sheet(self) -> Path:
        return self.out / "neighbors.png"


@dataclass
class Stages:
    """Seconds each stage took, and which were reused."""

    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    def run(self, name: str, valid: Callable[[], bool], make: Callable[[], object]) -> None:
        """Make a stage's output unless a valid one is there."""
        start = time.monotonic()
        try:
            reuse = valid()
        except LookalikeError:
            reuse = False  # missing, altered or made otherwise: all mean that it is made anew
        if not reuse:
            _say(f"{name} …")
            make()
        self.done(name, start, reused=reuse)

    def done(self, name: str, start: float, *, reused: bool) -> None:
        """Book a stage that began at `start`."""
        if reused:
            self.reused.append(name)
            _say(f"{name}: still valid, reused")
        self.seconds[name] = time.monotonic() - start


def released() -> Path:
    """The released encoder for pictures like the demo's."""
    from lookalike.ssl.released import find_released

    return find_released("galaxy", ("R", "G", "B"))


def run(demo: Demo) -> None:
    """Run every stage, print what came out, and serve it unless asked not to."""
    if demo.serve:
        from lookalike.serving import check_ports

        check_ports(demo.port, demo.app_port)
    _say(f"lookalike demo in {demo.out}, seed {demo.seed}")
    stages = make_all(demo)
    stages.run("score", lambda: _scores_valid(demo), lambda: score(demo))
    print(report(demo, stages, read_scores(demo)), flush=True)
    if demo.serve:
        from lookalike.serving import serve_both

        serve_both(demo.index, demo.port, demo.app_port, demo.max_overlap)


def make_all(demo: Demo) -> Stages:
    """Ingest, train, embed, index and verify; each stage only where its output is not still valid."""
    from lookalike.datasets import ingest
    from lookalike.indexer.audit import verify
    from lookalike.indexer.index import build_index
    from lookalike.ssl.embed import embed

    stages = Stages()
    stages.run("ingest", lambda: _samples_valid(demo), lambda: ingest("hubble", [], demo.samples, overwrite=True))
    if demo.pretrained is None:
        stages.run("train", lambda: _checkpoint_valid(demo), lambda: _train(demo))
    else:
        stages.run("pretrained", lambda: _is_adapted(demo), lambda: _adapt(demo))
    stages.run(
        "embed",
        lambda: _embeddings_valid(demo),
        lambda: embed([demo.samples], demo.checkpoint, demo.embeddings, overwrite=True),
    )
    start = time.monotonic()
    built = build_index(
        demo.embeddings, [demo.samples], demo.index, k=K_NEIGHBORS, window=WINDOW, checkpoint=demo.checkpoint
    )
    stages.done("index", start, reused=built.reused)
    stages.run("verify", lambda: False, lambda: verify(demo.index))
    return stages


def _train(demo: Demo) -> None:
    from lookalike.ssl.train import train

    try:
        train([demo.samples], demo.checkpoint, training(demo), resume=_can_resume(demo))
    except StoppedError as error:
        raise StoppedError(
            "Stopped, with the training saved; the same command goes on from there.", code=error.code
        ) from None


def _is_adapted(demo: Demo) -> bool:
    from lookalike.ssl.released import is_adapted

    assert demo.pretrained is not None
    return is_adapted(demo.checkpoint, demo.pretrained, Samples(demo.samples))


def _adapt(demo: Demo) -> None:
    from lookalike.ssl.released import adapt

    assert demo.pretrained is not None
    for note in adapt(demo.pretrained, Samples(demo.samples), demo.checkpoint):
        _say(f"pretrained: {note}")


def training(demo: Demo) -> TrainConfig:
    """The demo's training settings: a small encoder, few minutes on two cores."""
    from lookalike.ssl.settings import TrainConfig

    return TrainConfig(
        encoder=ENCODER,
        epochs=demo.epochs or EPOCHS,
        seed=demo.seed,
        small_stem=False,  # the stem for small pictures costs eight times the work
        # Few steps on few objects: fewer negatives, a sharper contrast, a larger rate and a key encoder that follows
        # faster find more in the same time.
        queue=256,
        momentum=0.98,
        temperature=0.1,
        lr=0.06,
        orientations=8,
    )


def _samples_valid(demo: Demo) -> bool:
    """Whether the samples are whole and this version of lookalike cut them out."""
    samples = Samples(demo.samples)
    samples.verify()
    record = read_record(demo.samples) or {}
    settings, versions = record.get("settings", {}), record.get("versions", {})
    made = (settings.get("source"), record.get("content_hash"), versions.get("lookalike"))
    return made == ("hubble", samples.content_hash, __version__)


def _checkpoint_valid(demo: Demo) -> bool:
    """Whether a complete encoder of exactly this training is there, every byte of it."""
    from lookalike.ssl.checkpoint import load_encoder
    from lookalike.ssl.settings import refuse_changes

    _, config = load_encoder(demo.checkpoint)
    refuse_changes(config.train, training(demo))
    complete = config.epoch >= config.train["epochs"] == training(demo).epochs
    return complete and config.samples_hash == Samples(demo.samples).content_hash


def _can_resume(demo: Demo) -> bool:
    """Whether an unfinished or shorter training can go on; one of other data or settings is removed."""
    from lookalike.ssl.checkpoint import read_config
    from lookalike.ssl.settings import refuse_changes

    if not demo.checkpoint.exists():
        return False
    try:
        config = read_config(demo.checkpoint)
        refuse_changes(config.train, training(demo))
        if config.samples_hash == Samples(demo.samples).content_hash:
            _say(f"train: going on after {config.epoch:.1f} of {training(demo).epochs} epochs")
            return True
        _say("train: made anew, since the samples are others")
    except LookalikeError as error:
        _say(f"train: made anew, since it differs: {error.message}")
    with lock(demo.checkpoint):
        shutil.rmtree(demo.checkpoint)
    return False


def _embeddings_valid(demo: Demo) -> bool:
    from lookalike.ssl.checkpoint import read_config

    embeddings = Embeddings(demo.embeddings)
    embeddings.verify()
    return embeddings.made_from == {
        "samples": Samples(demo.samples).content_hash,
        "checkpoint": read_config(demo.checkpoint).content_hash,
    }


def score(demo: Demo) -> None:
    """Self-retrieval@1 of augmented copies, the trained encoder beside three rivals; also draws the sheet.

    For all objects and for the brighter third, since the faintest are little more than noise in 8 bits.
    """
    from lookalike.indexer.search import Searcher
    from lookalike.probes.compare import compare_representations
    from lookalike.probes.retrieval import share
    from lookalike.probes.sheet import neighbor_sheet

    searcher = Searcher(demo.index)
    left_out = [searcher.overlapping(row, demo.max_overlap) for row in range(searcher.n)]
    neighbor_sheet(searcher, _shown_queries(searcher), SHOWN_NEIGHBORS, demo.sheet, demo.max_overlap)
    found = compare_representations(searcher.samples, demo.checkpoint, left_out=left_out, seed=demo.seed)
    mag = searcher.samples.column("mag")
    bright = mag <= np.quantile(mag, 1 / 3)
    scores = {name: {"all": share(hits), "brighter third": share(hits[bright])} for name, hits in found.items()}
    shares = {name: {which: asdict(s) for which, s in both.items()} for name, both in scores.items()}
    write_json(
        demo.scores,
        {"self_retrieval_at_1": shares, "max_overlap": demo.max_overlap, "made_from": _scored(demo, shares)},
    )


def read_scores(demo: Demo) -> Scores:
    """The scores that are stored."""
    from lookalike.proportions import Share

    stored = read_json(demo.scores)["self_retrieval_at_1"]
    return {name: {which: Share(**share) for which, share in both.items()} for name, both in stored.items()}


def _scored(demo: Demo, shares: object) -> dict[str, object]:
    """What decides whether scores and picture are still valid: themselves, what they tell of, and how."""
    from lookalike.indexer.store import Index
    from lookalike.ssl.checkpoint import read_config

    return {
        "samples": Samples(demo.samples).content_hash,
        "checkpoint": read_config(demo.checkpoint).content_hash,
        "index": Index(demo.index).manifest.content_hash,
        "seed": demo.seed,
        "max_overlap": demo.max_overlap,
        "lookalike": __version__,
        "picture": file_hash(demo.sheet),
        "scores": content_hash({}, shares),
    }


def _scores_valid(demo: Demo) -> bool:
    stored = read_json(demo.scores)
    if not isinstance(stored, dict) or not demo.sheet.is_file():
        return False
    return bool(stored.get("made_from") == _scored(demo, stored.get("self_retrieval_at_1")))


def _shown_queries(searcher: Searcher) -> list[str]:
    """Ids spread over the brighter third, whose shapes a person can judge, past the few brightest that are alone."""
    by_magnitude = np.argsort(searcher.samples.column("mag"), kind="stable")
    places = np.linspace(len(by_magnitude) // 50, len(by_magnitude) // 3, SHOWN_QUERIES).astype(int)
    return [searcher.samples.id(row) for row in by_magnitude[places].tolist()]


def report(demo: Demo, stages: Stages, scores: Scores) -> str:
    """What the demo got, for a person."""
    n = next(iter(scores.values()))["all"].n
    lines = [
        "",
        f"{counted(n, 'galaxy', 'galaxies')} of the Hubble eXtreme Deep Field; "
        f"{counted(K_NEIGHBORS, 'neighbor')} each within {WINDOW}",
        *_encoder_told(demo),
        "",
        "Self-retrieval@1: how often an augmented copy finds its original first (95 % interval)",
        f"  {'':<34}{'all':<22}brighter third",
        *(f"  {name:<34}{both['all']!s:<22}{both['brighter third']}" for name, both in scores.items()),
        f"  Objects whose footprint overlaps the query's by more than {demo.max_overlap:.0%} are left out of lists and",
        "  scores, since neighboring cutouts of a crowded field share pixels (--max-overlap).",
        "",
        "Stages",
        *(
            f"  {name:<10}{seconds:7.1f} s{'   reused' if name in stages.reused else ''}"
            for name, seconds in stages.seconds.items()
        ),
        f"  {'in all':<10}{sum(stages.seconds.values()):7.1f} s",
        "",
        "Files",
        *(
            f"  {name:<12}{path}"
            for name, path in {
                "samples": demo.samples,
                "checkpoint": demo.checkpoint,
                "embeddings": demo.embeddings,
                "index": demo.index,
                "scores": demo.scores,
                "picture": demo.sheet,
            }.items()
        ),
    ]
    return "\n".join(lines)


def _encoder_told(demo: Demo) -> list[str]:
    """Which encoder it was, where it was not trained here."""
    if demo.pretrained is None:
        return []
    from lookalike.ssl.checkpoint import read_config

    config = read_config(demo.checkpoint)
    trained = config.train["adapted"].get("trained on size", config.preprocess.size)
    return [
        f"Encoder {demo.pretrained.name}, released: {config.encoder.name}, trained on "
        f"{counted(config.objects, 'object')} of other data with views of {trained} px, seeing "
        f"{config.preprocess.size} px here"
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
