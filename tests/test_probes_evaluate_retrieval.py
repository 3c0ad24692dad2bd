"""`evaluate retrieval` on drawn galaxies whose vectors are known: what is scored, chosen, left out and said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from lookalike.cli import main
from lookalike.embeddings import write_embeddings
from lookalike.errors import InputError, LookalikeError
from lookalike.probes import representations
from lookalike.probes.bootstrap import estimate, means
from lookalike.probes.evaluate_retrieval import BASELINES, RetrievalReport, evaluate_retrieval
from lookalike.probes.labels import Labels, read_labels, reporting_half
from lookalike.probes.measures import Circle
from lookalike.probes.plots import LEFT, RIGHT, WIDTH
from lookalike.probes.principal import objects_fitted
from lookalike.probes.representations import represent
from lookalike.probes.retrieval_page import draw, page
from lookalike.probes.retrieval_report import as_json, as_text, signed
from lookalike.samples import About, Column, Samples
from lookalike.samples_writer import write_samples
from lookalike.ssl.checkpoint import save_encoder
from lookalike.ssl.embed import embed, embed_objects
from lookalike.ssl.encoders import Encoder
from lookalike.ssl.plan import make_plan
from lookalike.ssl.settings import TrainConfig

N, SIZE = 160, 24
RNG = np.random.default_rng(0)
KIND = RNG.integers(0, 3, N)  # of each object
NAMES = np.array(["disk", "edge-on", "round"])
WEIGHT = RNG.integers(0, 4, N).astype(float)
AGE = KIND + RNG.normal(0, 0.3, N)
VECTORS = np.eye(3, 5)[KIND] + RNG.normal(0, 0.4, (N, 5))
FULL: dict[str, NDArray[Any]] = {
    "kind": NAMES[KIND],
    "number": KIND,
    "age": AGE,
    "weight": WEIGHT,
    "bad_weight": WEIGHT - 1.5,
    "signed_weight": np.where(np.arange(N) % 11 == 3, -1.0, 1.0) * (1 + WEIGHT),
    "same": np.ones(N),
    "own": np.array([f"name {row}" for row in range(N)]),
    "some": np.where(np.arange(N) % 5 == 0, "", NAMES[KIND]),
    "some_age": np.where(np.arange(N) % 4 == 0, np.nan, AGE),
    "some_weight": np.where(np.arange(N) % 8 == 1, np.nan, WEIGHT),
    "x": np.repeat(np.arange(N // 2), 2) * 100.0,  # two by two in one place
    "y": np.zeros(N),
}


def pictures() -> NDArray[np.uint8]:
    """A blob whose roundness goes with its kind, in noise."""
    random = np.random.default_rng(1)
    grid = np.arange(SIZE) - (SIZE - 1) / 2
    width = np.stack([np.full(N, 4.0), 4.0 - 1.2 * KIND], 1)  # (N, 2) σ in px
    profile = np.exp(-0.5 * ((grid / width[:, :1, None]) ** 2 + (grid[:, None] / width[:, 1:, None]) ** 2))
    images = 60 * profile[:, None] + random.normal(60, 60, (N, 3, SIZE, SIZE))
    return np.clip(images, 0, 255).astype(np.uint8)


def write(folder: Path, rows: slice = slice(None), name: str = "samples.h5", **changed: NDArray[Any]) -> Path:
    columns = FULL | changed
    about = About(domain="galaxy", bands=("R", "G", "B"), source="drawn")
    described = {column: Column("px" if column in "xy" else "", column) for column in columns}
    ids = [f"o{row:03d}" for row in range(N)]
    with write_samples(folder / name, about, described) as writer:
        writer.append(ids[rows], pictures()[rows], {column: values[rows] for column, values in columns.items()})
    return folder / name


def vectors_file(path: Path, vectors: NDArray[Any] = VECTORS, **about: Any) -> Path:
    ids = np.array([f"o{row:03d}".encode() for row in range(len(vectors))])
    write_embeddings(path, ids, iter([vectors]), dimensions=vectors.shape[1], **about)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    write(folder)
    vectors_file(folder / "mine.h5")
    return folder


@pytest.fixture(scope="module", autouse=True)
def embedded_once() -> Iterator[None]:
    """Encoders take seconds on a busy machine: the same one is asked about the same pictures once."""
    done: dict[Any, NDArray[np.float32]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def remembered(images: NDArray[Any], encoder: Encoder, config: Any, *, layer: str) -> NDArray[np.float32]:
        key = (images.tobytes(), float(next(encoder.parameters()).detach().sum()), layer)
        if key not in done:
            done[key] = embed_objects(images, encoder, config, layer=layer)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(representations, "embed_objects", remembered)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `lookalike evaluate retrieval …` in this process: return code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lookalike", "evaluate", "retrieval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def run(folder: Path, label: str = "kind", samples: Path | None = None, **options: Any) -> RetrievalReport:
    options = {"embeddings": folder / "mine.h5", "resamples": 200, "quiet": True} | options
    return evaluate_retrieval([samples or folder / "samples.h5"], label=label, **options)


def halves(seed: int = 0) -> tuple[list[int], list[int]]:
    reporting = reporting_half(np.array([f"o{row:03d}".encode() for row in range(N)]), seed)
    return np.flatnonzero(~reporting).tolist(), np.flatnonzero(reporting).tolist()


def neighbors(query: int, among: list[int], vectors: NDArray[Any] = VECTORS) -> list[int]:
    """By the definition: the others by falling cosine, slowly."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return sorted((row for row in among if row != query), key=lambda row: -float(unit[query] @ unit[row]))


@pytest.mark.parametrize("weights", [None, "weight", "signed_weight"])
def test_scores_are_those_of_the_definition_on_the_reporting_half(folder: Path, weights: str | None) -> None:
    report = as_json(run(folder, weights=weights))
    _, half = halves()
    weight = FULL[weights] if weights else np.ones(N)
    precision, average, gain, correct, chance = [], [], [], [], []
    for query in half:
        listed = neighbors(query, half)
        same = [KIND[row] == KIND[query] for row in listed]
        w = [float(weight[row]) for row in listed]
        of_class = sum(w[i] for i in range(len(w)) if same[i])
        chance.append(of_class / sum(w))
        so_far = []
        for length in range(1, len(w) + 1):
            cancel = sum(w[:length]) <= 0 or sum(w[:length]) < 0.5 * sum(map(abs, w[:length]))
            found = sum(w[i] for i in range(length) if same[i])
            so_far.append(chance[-1] if cancel else found / sum(w[:length]))
        precision.append(so_far[9])
        average.append(sum(w[i] * so_far[i] for i in range(len(w)) if same[i]) / of_class)
        best = sorted((w[i] for i in range(len(w)) if same[i]), reverse=True)[:10]
        gained = sum(w[i] / np.log2(i + 2) for i in range(10) if same[i])
        gain.append(min(gained / sum(max(each, 0) / np.log2(i + 2) for i, each in enumerate(best)), 1))
        voices = [sum(w[i] for i in range(report["knn_k"]) if KIND[listed[i]] == c) for c in range(3)]
        correct.append(KIND[query] == min(range(3), key=lambda c: (-voices[c], c)))
    for name, values in {
        "precision_at_k": precision,
        "mean_average_precision": average,
        "ndcg_at_k": gain,
        "knn_accuracy": correct,
        "chance": chance,
    }.items():
        assert report[name] == pytest.approx(np.average(values, weights=weight[half])), name
    for kind, name in enumerate(NAMES.tolist()):
        own = np.where(KIND[half] == kind, weight[half], 0)
        assert report["by_class"][name]["value"] == pytest.approx(np.average(precision, weights=own))
    assert report["queries"] == sum(weight[half] != 0)
    assert report["candidates"] == len(half) - 1


def test_a_continuous_label_is_predicted_by_its_neighbors(folder: Path) -> None:
    report = as_json(run(folder, "age", weights="weight"))
    _, half = halves()
    weight = WEIGHT[half]
    mean = np.average(AGE[half], weights=weight)
    predicted = []
    for query in half:
        near = neighbors(query, half)[: report["knn_k"]]
        total = sum(WEIGHT[near])  # of weights that are 0, the neighbors say nothing
        predicted.append(sum(WEIGHT[near] * AGE[near]) / total if total > 0 else mean)
    error = np.average((AGE[half] - predicted) ** 2, weights=weight) / np.average(
        (AGE[half] - mean) ** 2, weights=weight
    )
    assert report["r2"] == pytest.approx(1 - error)
    assert report["metric"] == "r2"
    assert report["precision_at_k"] is report["ndcg_at_k"] is report["chance"] is report["classes"] is None
    assert report["by_class"] is report["baselines"]["untrained"]["by_class"] is None
    assert report["baselines"]["untrained"]["difference"] == pytest.approx(
        report["r2"] - report["baselines"]["untrained"]["r2"]
    )


def test_the_document_has_what_is_promised(folder: Path) -> None:
    report = json.loads(json.dumps(as_json(run(folder)), allow_nan=False))
    assert (report["label"], report["k"], report["kind"], report["half"]) == ("kind", 10, "categorical", "reporting")
    low, high = report["interval"]
    assert low < report["precision_at_k"] < high
    assert 0 < report["ndcg_at_k"] <= 1
    assert list(report["baselines"]) == list(BASELINES)
    for baseline in report["baselines"].values():
        assert baseline["difference"] == pytest.approx(report["precision_at_k"] - baseline["value"])
        assert baseline["difference_interval"][0] <= baseline["difference"] <= baseline["difference_interval"][1]
        assert baseline["interval"][0] <= baseline["value"] <= baseline["interval"][1]
        for metric in ("mean_average_precision", "ndcg_at_k", "knn_accuracy"):
            assert baseline["differences"][metric] == pytest.approx(report[metric] - baseline[metric])
    assert report["baselines"]["pixels_pca"]["components"] in (16, 64, 160)
    assert report["left_out"] == {"without_label": 0, "without_weight": 0, "without_relevant": 0}
    assert sum(report["objects"].values()) == N
    assert list(report["by_class"]) == NAMES.tolist()
    for name, own in report["by_class"].items():
        assert own["interval"][0] <= own["value"] <= own["interval"][1]
        theirs = report["baselines"]["untrained"]["by_class"][name]
        assert theirs["difference"] == pytest.approx(own["value"] - theirs["value"])


def test_the_same_seed_says_the_same_and_another_parts_otherwise(folder: Path) -> None:
    first, again, other = (as_json(run(folder, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first["objects"] != other["objects"] or first["interval"] != other["interval"]


def test_vectors_of_chance_score_chance_and_perfect_ones_score_1(folder: Path) -> None:
    random = np.random.default_rng(5)
    chance = as_json(run(folder, embeddings=vectors_file(folder / "random.h5", random.standard_normal((N, 8)))))
    assert abs(chance["precision_at_k"] - chance["chance"]) < 0.05  # σ about 0.02 on 80 queries
    perfect = np.eye(3)[KIND] + 1e-3 * random.standard_normal((N, 3))
    report = as_json(run(folder, embeddings=vectors_file(folder / "perfect.h5", perfect)))
    assert report["precision_at_k"] == report["knn_accuracy"] == 1
    assert (report["ndcg_at_k"], report["mean_average_precision"]) == pytest.approx((1, 1))
    assert all(baseline["difference_interval"][0] > 0 for baseline in report["baselines"].values())


def test_an_object_is_in_the_same_half_everywhere() -> None:
    ids = np.array([f"o{row}".encode() for row in range(4000)])
    half = reporting_half(ids, 3)
    np.testing.assert_array_equal(reporting_half(ids[::-2], 3), half[::-2])
    assert abs(half.mean() - 0.5) < 0.04  # 5 standard errors
    assert 0.4 < (half == reporting_half(ids, 4)).mean() < 0.6


def test_what_is_chosen_depends_on_the_tuning_half_alone(folder: Path, tmp_path: Path) -> None:
    tuning, reporting = halves()
    changed = KIND.copy()
    changed[reporting] = np.random.default_rng(6).integers(0, 3, len(reporting))
    other_report = write(tmp_path, name="a.h5", kind=NAMES[changed])
    changed = KIND.copy()
    changed[tuning] = np.random.default_rng(7).integers(0, 3, len(tuning))
    other_tuning = write(tmp_path, name="b.h5", kind=NAMES[changed])
    plain, a, b = run(folder), run(folder, samples=other_report), run(folder, samples=other_tuning)
    assert {name: score.chosen for name, score in plain.scores.items()} == {
        name: score.chosen for name, score in a.scores.items()
    }
    assert plain.scores["encoder"].metrics["precision_at_k"] == b.scores["encoder"].metrics["precision_at_k"]
    assert plain.scores["encoder"].metrics["precision_at_k"] != a.scores["encoder"].metrics["precision_at_k"]


def test_the_best_components_and_k_of_the_tuning_half_are_chosen(folder: Path) -> None:
    report, shown = run(folder), as_json(run(folder, tune=True))
    assert shown["half"] == "tuning"
    tuning, _ = halves()
    scores = {}
    for count, unit in report.representations.pixels.items():
        lists = {query: neighbors(query, tuning, unit)[:10] for query in tuning}
        scores[count] = np.mean([(KIND[rows] == KIND[query]).mean() for query, rows in lists.items()])
    best = max(scores, key=lambda count: (round(scores[count], 12), -count))
    assert report.scores["pixels_pca"].chosen["components"] == best
    assert shown["baselines"]["pixels_pca"]["precision_at_k"] == pytest.approx(scores[best])
    accuracies = {}
    for k in (1, 3, 5, 10, 20, 50):
        right = 0
        for query in tuning:
            heard = KIND[neighbors(query, tuning)[:k]].tolist()
            right += KIND[query] == min(range(3), key=lambda c: (-heard.count(c), c))
        accuracies[k] = right / len(tuning)
    assert report.scores["encoder"].chosen["knn_k"] == max(accuracies, key=lambda k: (accuracies[k], -k))


def test_the_baselines_see_the_encoders_pixels(folder: Path) -> None:
    samples = Samples(folder / "samples.h5")
    rows = np.arange(0, N, 2)
    found = represent(samples, rows, embeddings=folder / "mine.h5", quiet=True)
    assert (found.view, found.fitted) == (16, len(rows))
    cropped = pictures()[rows][:, :, 4:20, 4:20].reshape(len(rows), -1).astype(float)
    scores = PCA(16, svd_solver="full").fit_transform(cropped)
    cosine = scores @ scores.T / np.outer(np.linalg.norm(scores, axis=1), np.linalg.norm(scores, axis=1))
    np.testing.assert_allclose(found.pixels[16] @ found.pixels[16].T, cosine, atol=1e-3)
    assert list(found.pixels) == [16, 64, 79]  # 80 centered pictures have 79 directions
    for vectors in (found.encoder, found.untrained, found.hand_features):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_pictures_too_many_for_memory_are_fitted_in_part() -> None:
    assert objects_fitted(1000, 3 * 64 * 64) == 1000
    assert objects_fitted(10**6, 3 * 64 * 64) == 2048
    assert objects_fitted(10**6, 3 * 512 * 512) * 3 * 512 * 512 * 4 <= 1 << 29


@pytest.mark.parametrize("label", ["some", "some_age"])
def test_objects_without_a_label_neither_ask_nor_are_found(folder: Path, label: str) -> None:
    report = run(folder, label)
    missing = 32 if label == "some" else 40
    assert report.left_out["without_label"] == missing
    assert sum(report.sizes.values()) == N - missing
    assert f"{missing} without a label" in as_text(report)


def test_objects_without_a_weight_are_left_out_and_counted(folder: Path) -> None:
    report = run(folder, weights="some_weight")
    assert report.left_out["without_weight"] == 20
    assert sum(report.sizes.values()) == N - 20


def test_a_class_of_one_asks_in_vain(folder: Path, tmp_path: Path) -> None:
    lonely = NAMES[KIND].astype("U9")
    lonely[halves()[1][4]] = "lonely"
    report = run(folder, samples=write(tmp_path, kind=lonely))
    assert report.left_out["without_relevant"] == 1
    assert report.queries == report.sizes["reporting"] - 1


def test_objects_in_one_place_do_not_find_each_other(folder: Path, tmp_path: Path) -> None:
    twins = np.repeat(VECTORS[::2], 2, axis=0)  # each finds its twin first, of another kind or not
    mine = vectors_file(tmp_path / "twins.h5", twins)
    _, half = halves()
    report = as_json(run(folder, embeddings=mine, max_overlap=0.25))
    expected = []
    for query in half:
        found = [row for row in neighbors(query, half, twins) if row // 2 != query // 2]
        expected.append(np.mean(KIND[found[:10]] == KIND[query]))
    assert report["precision_at_k"] == pytest.approx(np.mean(expected), abs=0.02)  # twins elsewhere are ties
    assert report["precision_at_k"] != as_json(run(folder, embeddings=mine))["precision_at_k"]


def test_chance_is_that_of_the_objects_a_query_may_find(folder: Path, tmp_path: Path) -> None:
    """In each place stand two of a kind, which do not find each other."""
    twins = np.repeat(NAMES[KIND[::2]], 2)
    report = run(folder, samples=write(tmp_path, kind=twins), max_overlap=0.25)
    _, half = halves()
    expected = []
    for query in half:
        others = [row for row in half if row // 2 != query // 2]
        expected.append(np.mean([twins[row] == twins[query] for row in others]))
    assert report.chance == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("factor", [1e200, 1e-200, 1e307, 1e-310])
def test_labels_of_any_size_are_predicted_alike(folder: Path, tmp_path: Path, factor: float) -> None:
    report = run(folder, "age", samples=write(tmp_path, age=AGE * factor, weight=WEIGHT * 1e307), weights="weight")
    plain = run(folder, "age", weights="weight")
    for name in plain.scores:
        assert report.scores[name].metrics["r2"].value == pytest.approx(plain.scores[name].metrics["r2"].value)


def test_labels_that_one_outlier_dwarfs_are_refused(folder: Path, tmp_path: Path) -> None:
    """The outlier is found, but its weight of 0 keeps it from asking."""
    tuning, _ = halves()
    dwarfed, weight = AGE.copy(), np.ones(N)
    dwarfed[tuning[0]], weight[tuning[0]] = 1e200, 0
    with pytest.raises(InputError, match="column 'age' are all the same beside the largest"):
        run(folder, "age", samples=write(tmp_path, age=dwarfed, weight=weight), weights="weight")


def test_pictures_that_are_all_alike_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(f"{__name__}.pictures", lambda: np.full((N, 3, SIZE, SIZE), 9, np.uint8))
    with pytest.raises(InputError, match=r"Pictures must differ .* but the \d+ compared are all alike"):
        run(folder, samples=write(tmp_path))


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({}, {"max_overlap": 2}, "share from 0 to 1, but 2 was given"),
        ({}, {"max_overlap": float("nan")}, "share from 0 to 1, but nan was given"),
        ({"x": np.full(N, "a")}, {"max_overlap": 0.2}, "Overlaps need x and y"),
        ({}, {"label": "own"}, "At least 10 objects must have another to find"),
        ({}, {"label": "age", "max_queries": 1}, "within the 1 object that asks"),
    ],
    ids=["share", "no number", "no positions", "too few", "too few asked"],
)
def test_options_are_checked_before_a_picture_is_described(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    def described(*_: Any, **__: Any) -> None:
        pytest.fail("the pictures were described")

    monkeypatch.setattr("lookalike.probes.evaluate_retrieval.represent", described)
    with pytest.raises(InputError, match=message):
        run(folder, samples=write(tmp_path, **changed), **options)


def test_blanks_around_a_text_make_no_class_of_their_own(folder: Path, tmp_path: Path) -> None:
    odd = np.where(np.arange(N) % 2, np.char.add(NAMES[KIND], " "), NAMES[KIND])
    odd[:3] = ["  ", "", "\u00a0"]
    samples = Samples(write(tmp_path, kind=odd))
    labels = read_labels(samples, "kind")
    assert labels.classes == ("disk", "edge-on", "round")
    assert labels.values.tolist() == KIND[3:].tolist()
    assert labels.without_label == samples.missing()["kind"] == 3


def test_a_value_may_mean_that_there_is_no_label(folder: Path) -> None:
    samples = Samples(folder / "samples.h5")
    whole, fewer = read_labels(samples, "kind"), read_labels(samples, "kind", no_label=[" round"])
    assert fewer.classes == ("disk", "edge-on")
    assert fewer.rows.tolist() == [row for row, value in zip(whole.rows, whole.values, strict=True) if value != 2]
    assert fewer.without_label == N - len(fewer.rows)
    assert set(read_labels(samples, "number", no_label=["1.0"]).classes) == {"0", "2"}
    report = run(folder, no_label=["round"])
    assert report.left_out["without_label"] == fewer.without_label
    assert report.settings["no_label"] == ["round"]


def test_a_number_of_many_digits_means_itself_alone(folder: Path, tmp_path: Path) -> None:
    """A float64 makes 2^53 and the next whole number one."""
    number = np.resize([2**53, 2**53 + 1, 5], N)
    labels = read_labels(Samples(write(tmp_path, number=number)), "number", no_label=[str(2**53 + 1)])
    assert labels.classes == ("5", str(2**53))
    assert labels.without_label == np.count_nonzero(number == 2**53 + 1)
    with pytest.raises(InputError, match="No object has the number"):
        read_labels(Samples(folder / "samples.h5"), "number", no_label=["9" * 30])


def test_a_value_that_no_object_has_is_refused(folder: Path) -> None:
    samples = Samples(folder / "samples.h5")
    with pytest.raises(InputError, match="No object has the kind 'disc' that --no-label leaves out"):
        read_labels(samples, "kind", no_label=["disc"])
    with pytest.raises(InputError, match="Column 'number' holds numbers, but --no-label 'two' is none"):
        read_labels(samples, "number", no_label=["two"])


def test_without_positions_overlap_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Overlaps need x and y"):
        run(folder, samples=write(tmp_path, x=np.full(N, "a")), max_overlap=0.2)
    with pytest.raises(InputError, match=r"share from 0 to 1, but 1.5"):
        run(folder, max_overlap=1.5)


def test_fewer_may_ask(folder: Path) -> None:
    report = run(folder, max_queries=30)
    assert report.queries == 30
    assert report.candidates == report.sizes["reporting"] - 1


def test_those_left_to_ask_must_differ(folder: Path, tmp_path: Path) -> None:
    """One object of another kind is there, but is not among the few that ask."""
    rare = np.where(np.isin(np.arange(N), [half[at] for half in halves() for at in (0, 1)]), "rare", "usual")
    samples = write(tmp_path, kind=rare)
    assert run(folder, samples=samples).queries == len(halves()[1])
    with pytest.raises(InputError, match=r"within the 12 objects that ask; see --max-queries"):
        run(folder, samples=samples, max_queries=12)


def test_shards_are_one_data_set(folder: Path, tmp_path: Path) -> None:
    parts = [write(tmp_path, slice(0, 70), "part1.h5"), write(tmp_path, slice(70, None), "part2.h5")]
    whole = as_json(run(folder))
    sharded = as_json(evaluate_retrieval(parts, label="kind", embeddings=folder / "mine.h5", resamples=200, quiet=True))
    for name in ("precision_at_k", "interval", "baselines"):
        assert sharded[name] == whole[name]


def test_kinds_follow_from_the_values(folder: Path) -> None:
    samples = Samples(folder / "samples.h5")
    assert read_labels(samples, "kind").classes == ("disk", "edge-on", "round")
    assert read_labels(samples, "number").classes == ("0", "1", "2")
    assert read_labels(samples, "weight").classes == ("0.0", "1.0", "2.0", "3.0")
    assert read_labels(samples, "age").kind == read_labels(samples, "number", kind="continuous").kind == "continuous"
    assert len(read_labels(samples, "age", kind="categorical").classes) == N


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "kin"}, "Did you mean 'kind'"),
        ({"label": "same"}, r"Labels must differ, but column 'same' is 1.0 for every object"),
        ({"label": "own"}, r"At least 10 objects must have another to find"),
        ({"kind": "continuous"}, "column 'kind' holds texts"),
        ({"kind": "ordinal"}, "Unknown kind 'ordinal'"),
        ({"weights": "bad_weight"}, "Weights may be negative where their sum is at least 5 times"),
        ({"weights": "kind"}, "A weight is a number, but column 'kind' holds texts"),
        ({"k": 100}, "A list of k = 100 needs more than 100 objects"),
        ({"split": "third"}, "Unknown split 'third'"),
        ({"split": "none", "tune": True}, "--split none makes no halves"),
        ({"embeddings": None}, "give --checkpoint or --embeddings"),
        ({"layer": "head"}, "Unknown layer 'head'"),
        ({"k": 0}, "at least 1, but 0, 200 and None"),
    ],
)
def test_wrong_input_is_refused_in_one_line(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LookalikeError, match=message) as error:
        run(folder, **options)
    assert "\n" not in error.value.message


def test_vectors_of_other_objects_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other objects"):
        run(folder, embeddings=vectors_file(tmp_path / "few.h5", VECTORS[:-1]))
    with pytest.raises(InputError, match="other samples"):
        run(folder, embeddings=vectors_file(tmp_path / "other.h5", made_from={"samples": "ab" * 32}))


def test_an_encoder_is_scored_as_its_embeddings_are(
    folder: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    samples, checkpoint, vectors = folder / "samples.h5", tmp_path / "checkpoint", tmp_path / "embeddings.h5"
    plan = make_plan(Samples(samples), TrainConfig(batch_size=32, epochs=1, small_stem=False, seed=7))
    torch.manual_seed(3)
    checkpoint.mkdir()
    save_encoder(checkpoint, Encoder(plan.encoder).eval(), plan.checkpoint(0))
    embed([samples], checkpoint, vectors, quiet=True)
    options = ("--label", "kind", "--resamples", 50, "--json")
    found = []
    for given in ([], ["--embeddings", vectors]):
        code, out, err = command(samples, "--checkpoint", checkpoint, *given, *options)
        assert code == 0, err
        found.append(json.loads(out))
    first, second = found
    assert first["precision_at_k"] == pytest.approx(second["precision_at_k"], abs=0.01)  # stored as float32
    assert first["encoder"] == second["encoder"]
    assert first["baselines"]["untrained"]["value"] != first["precision_at_k"]
    other = vectors_file(tmp_path / "other.h5", made_from={"checkpoint": "ab" * 32})
    code, out, err = command(samples, "--checkpoint", checkpoint, "--embeddings", other, *options)
    assert (code, out) == (2, "")
    assert "was made from other checkpoint" in err


def test_the_command_prints_a_table_a_plot_and_a_page(
    folder: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    common = (folder / "samples.h5", "--embeddings", folder / "mine.h5", "--label", "kind", "--resamples", 50)
    code, out, err = command(*common, "--plot", tmp_path / "a.svg", "--html", tmp_path / "a.html")
    assert code == 0, err
    for text in ("precision@10", "raw pixels, PCA(", "untrained encoder", "encoder's lead over", "reporting half"):
        assert text in out
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert "<svg" in (tmp_path / "a.html").read_text(encoding="utf-8")
    code, out, err = command(*common, "--plot", tmp_path / "a.gif")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("lookalike: A plot ends in .png, .svg, .pdf")


@pytest.mark.parametrize("option", ["--html", "--plot"])
def test_reports_replace_nothing_but_reports(
    folder: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]], option: str
) -> None:
    checkpoint, ending = tmp_path / "checkpoint", {"--html": ".html", "--plot": ".png"}[option]
    (checkpoint / "more").mkdir(parents=True)
    notes, loss, disguised = tmp_path / "notes.txt", checkpoint / f"loss{ending}", tmp_path / f"samples{ending}"
    link, linked = tmp_path / f"link{ending}", tmp_path / f"linked{ending}"
    for file in (notes, loss):
        file.write_text("kept")
    disguised.write_bytes((folder / "samples.h5").read_bytes())
    link.symlink_to(notes)
    linked.symlink_to(folder / "mine.h5")
    inputs = (folder / "samples.h5", disguised, "--embeddings", folder / "mine.h5", "--checkpoint", checkpoint)
    before = {file: file.read_bytes() for file in [folder / "samples.h5", folder / "mine.h5", disguised, notes, loss]}
    for file, message in {
        folder / "samples.h5": "samples.h5 is read here and cannot be written",
        disguised: "is read here and cannot be written",
        folder / "mine.h5": "mine.h5 is read here and cannot be written",
        linked: "is read here and cannot be written",
        loss: f"lies in {checkpoint}, which is read here, and cannot be written",
        checkpoint / "more" / f"new{ending}": "which is read here, and cannot be written",
        notes: f"ends in {ending}, ",
        link: f"ends in {ending}, .*which leads to .*notes.txt, was given",
        tmp_path: "is a folder",
    }.items():
        code, out, err = command(*inputs, "--label", "kind", option, file)
        assert (code, out) == (2, "")
        assert re.search(message, err.splitlines()[-1]), err
    assert {file: file.read_bytes() for file in before} == before


def test_without_halves_the_table_says_that_it_flatters(folder: Path) -> None:
    report = run(folder, "age", split="none")
    assert report.queries == N
    assert "which flatters" in as_text(report)
    assert "neighbor R²" in page(report)


def test_a_score_below_0_stands_there_on_the_page(folder: Path) -> None:
    """Neighbors that tell less than the mean does have a negative R²."""
    report = run(folder, "age", split="none")
    found = replace(report.scores["encoder"].metrics["r2"], value=-0.3, low=-0.4, high=-0.2)
    report.scores["encoder"].metrics["r2"] = found
    drawn = page(report)
    ticks = [float(each) for each in re.findall(r'class="tick"[^>]*>([^<]*)<', drawn)]
    assert ticks[0] == min(ticks) <= -0.4
    plot = drawn[drawn.index("<title>encoder: -0.300") :]
    left, right = (float(each) for each in re.search(r'x1="([\d.]+)" y1="0" x2="([\d.]+)"', plot).groups())  # type: ignore[union-attr]
    whole = WIDTH - LEFT - RIGHT
    assert right - left == pytest.approx(0.2 / (ticks[5] - ticks[0]) * whole, abs=0.2)
    assert left > LEFT - 0.1


def test_a_share_beyond_1_stands_there_on_the_page(folder: Path) -> None:
    """Signed weights leave some."""
    report = run(folder)
    found = replace(report.scores["encoder"].metrics["precision_at_k"], value=1.06, low=0.98, high=1.15)
    report.scores["encoder"].metrics["precision_at_k"] = found
    drawn = page(report)
    ticks = [float(each) for each in re.findall(r'class="tick"[^>]*>([^<]*)<', drawn)]
    assert max(ticks) >= 1.15
    plot = drawn[drawn.index("<title>encoder: 1.060") :]
    left, right = (float(each) for each in re.search(r'x1="([\d.]+)" y1="0" x2="([\d.]+)"', plot).groups())  # type: ignore[union-attr]
    assert right - left == pytest.approx(0.17 / max(ticks) * (WIDTH - LEFT - RIGHT), abs=0.2)


def test_a_difference_that_is_not_defined_says_so() -> None:
    none = estimate(np.array([np.nan, 1.0, 2.0]))
    assert np.isnan(none.interval).all()
    assert signed(none) == str(none) == "undefined"


def test_more_resamples_than_can_be_drawn_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="At most 100,000 resamples"):
        run(folder, resamples=10**20)


def test_signal_that_cancels_has_no_significance_and_says_so(tmp_path: Path) -> None:
    """The sums of those that ask scale each class to the whole: one of nearly nothing would turn the choice round."""
    weight = np.ones(N)
    for half in halves():
        one = [row for row in half if KIND[row] == 0]
        weight[one] = 0.1
        weight[one[::8]] = -0.1
        weight[one[1]] = 5.0
    write(tmp_path, kind=np.where(KIND == 0, "s", "b"), weight=weight)
    vectors_file(tmp_path / "mine.h5")
    report = run(tmp_path, weights="weight")
    assert "ams" not in report.scores["encoder"].metrics
    assert "ams_k" not in report.scores["encoder"].chosen
    assert "no significance is told: the weights of signal" in as_text(report)
    assert "no significance" not in as_text(run(tmp_path))


def test_a_mean_of_those_told_whose_weights_cancel_is_not_defined() -> None:
    circle = Circle(Labels("t", "circular", np.arange(4), np.zeros(4), (), np.ones(4), 0, 0, True, 720.0))
    values = np.array([1.0, 2.0, np.nan, np.nan])
    for weights, mean in ((np.array([1.0, 0.5, -3.0, 4.0]), 4 / 3), (np.array([1.0, -0.9, 5.0, 5.0]), np.nan)):
        terms = circle._mean_of_told(values, weights)
        assert means(terms.sum(0, keepdims=True)) == pytest.approx(mean, nan_ok=True)


def round_the_dial(minutes: NDArray[Any]) -> NDArray[Any]:
    """Noisy vectors of times of day."""
    angle = minutes * (2 * np.pi / 720)
    return np.stack([np.cos(angle), np.sin(angle)], 1) + np.random.default_rng(2).normal(0, 0.2, (N, 2))


def test_times_on_a_dial_are_scored_by_the_short_way_round(tmp_path: Path) -> None:
    hour, minute = RNG.integers(1, 13, N), RNG.integers(0, 60, N)
    time = (hour % 12) * 60 + minute
    write(tmp_path, hour=hour, minute=minute, time=time + 1440.0)
    vectors = round_the_dial(time)
    vectors_file(tmp_path / "mine.h5", vectors)
    report = run(tmp_path, "hour:minute", k=5)
    assert (report.metric, report.less_is_better, report.labels.kind) == ("apart_at_k", True, "circular")
    _, reporting = halves()

    def between(a: Any, b: Any) -> Any:
        apart = np.abs(np.asarray(a, float) - b) % 720
        return np.minimum(apart, 720 - apart)

    knn = int(report.scores["encoder"].chosen["knn_k"])
    lists = {query: neighbors(query, reporting, vectors) for query in reporting}
    apart = [between(time[lists[query][:5]], time[query]).mean() for query in reporting]
    angles = {query: time[lists[query][:knn]] * (2 * np.pi / 720) for query in reporting}
    told = {query: np.arctan2(np.sin(a).mean(), np.cos(a).mean()) * (720 / (2 * np.pi)) for query, a in angles.items()}
    errors = [between(told[query], time[query]) for query in reporting]
    found = report.scores["encoder"].metrics
    assert found["apart_at_k"].value == pytest.approx(np.mean(apart))
    assert found["prediction_error"].value == pytest.approx(np.mean(errors))
    every = [between(time[query], time[[o for o in reporting if o != query]]).mean() for query in reporting]
    assert report.chance == pytest.approx(np.mean(every))
    assert found["apart_at_k"].value < 60 < report.scores["pixels_pca"].metrics["apart_at_k"].value
    as_a_column = run(tmp_path, "time", k=5, period=720.0)
    assert as_a_column.scores["encoder"].metrics == found
    text = as_text(report)
    assert "label hour:minute: circular, once round is 720 minutes" in text
    assert re.search(r"lists at random have a mean difference of 1\d\d\.\d{3} minutes\.", text)
    assert "mean difference@5, minutes" in page(report)
    assert "mean difference@5" in text
    assert "encoder's lead over (less is better)" in text
    ticks = re.findall(r'class="tick"[^>]*>([^<]*)<', page(report))
    assert ticks[:6] == ["0", "50", "100", "150", "200", "250"]  # no share from 0 to 1
    document = as_json(report)
    assert document["less_is_better"]
    assert document["apart_at_k"] == pytest.approx(np.mean(apart))
    assert document["precision_at_k"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "age", "kind": "circular"}, "say after how much 'age' does with --period"),
        ({"label": "age", "kind": "continuous", "period": 1.0}, "period is above 0 and of circular labels"),
        ({"label": "age", "period": -1.0}, "period is above 0"),
        ({"label": "kind", "period": 2.0}, "A circular label is a number, but column 'kind' holds texts"),
        ({"label": "kind:age"}, "Hours and minutes are numbers, but column 'kind' holds texts"),
        ({"label": "hour:age"}, "hour"),
        ({"label": "kind", "asking": "square"}, "Unknown class 'square'"),
        ({"label": "age", "asking": "disk"}, "Only classes ask by themselves"),
    ],
    ids=str,
)
def test_labels_on_a_circle_and_classes_that_ask_must_fit(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LookalikeError, match=re.escape(message)):
        run(folder, **options)


def test_one_class_may_ask_among_all(folder: Path) -> None:
    report = run(folder, asking="edge-on")
    _, reporting = halves()
    asked = [query for query in reporting if NAMES[KIND[query]] == "edge-on"]
    assert (report.queries, report.candidates) == (len(asked), len(reporting) - 1)
    hits = [np.mean(KIND[neighbors(query, reporting)[:10]] == KIND[query]) for query in asked]
    assert report.scores["encoder"].metrics["precision_at_k"].value == pytest.approx(np.mean(hits))
    assert report.chance == pytest.approx((len(asked) - 1) / (len(reporting) - 1))
    assert "all of the class edge-on" in as_text(report)
    assert "<h2>precision@10 by class</h2>" in page(report)
    assert "<td>edge-on</td>" in page(report)


def test_weights_that_cancel_leave_a_list_on_a_circle_as_one_at_random(tmp_path: Path) -> None:
    time = RNG.integers(0, 720, N)
    weight = np.where(np.arange(N) % 6 == 0, -1.0, 1.0)
    write(tmp_path, time=time, weight=weight)
    vectors = round_the_dial(time)
    vectors_file(tmp_path / "mine.h5", vectors)
    report = run(tmp_path, "time", k=3, period=720.0, weights="weight")
    _, reporting = halves()

    def mean(query: int, found: list[int]) -> tuple[float, bool]:
        apart = np.abs(time[found] - time[query]) % 720
        w = weight[found]
        heard = w.sum() > 0 and w.sum() >= 0.5 * np.abs(w).sum()
        return float((w * np.minimum(apart, 720 - apart)).sum() / w.sum()) if heard else np.nan, heard

    every = {query: mean(query, [other for other in reporting if other != query])[0] for query in reporting}
    lists = {query: mean(query, neighbors(query, reporting, vectors)[:3]) for query in reporting}
    apart = [lists[query][0] if lists[query][1] else every[query] for query in reporting]
    assert not all(heard for _, heard in lists.values())
    assert report.scores["encoder"].metrics["apart_at_k"].value == pytest.approx(
        np.average(apart, weights=weight[reporting])
    )
    assert report.chance == pytest.approx(np.average(list(every.values()), weights=weight[reporting]))


def test_a_class_that_asks_alone_has_no_significance(tmp_path: Path) -> None:
    write(tmp_path, kind=np.where(KIND == 0, "s", "b"))
    vectors_file(tmp_path / "mine.h5")
    report = run(tmp_path, weights="weight", asking="s")
    assert "ams" not in report.scores["encoder"].metrics
    assert "ams" in run(tmp_path, weights="weight").scores["encoder"].metrics
    assert "nan" not in page(report)


def test_neighbors_that_cancel_predict_no_place_on_a_circle(tmp_path: Path) -> None:
    """Of weights that cancel, and of two places half the way round from each other, there is no direction."""
    time = RNG.integers(0, 12, N) * 60
    weight = np.where(np.arange(N) % 6 == 0, -1.0, 1.0)
    write(tmp_path, time=time, weight=weight)
    vectors = round_the_dial(time)
    vectors_file(tmp_path / "mine.h5", vectors)
    _, reporting = halves()

    def told(query: int, knn: int, *, weighted: bool) -> complex | None:
        """The sum of the neighbors' directions, None where it cannot be told from 0."""
        found = neighbors(query, reporting, vectors)[:knn]
        w = weight[found] if weighted else np.ones(knn)
        heard = w.sum() > 0 and w.sum() >= 0.5 * np.abs(w).sum()
        total = complex((w * np.exp(2j * np.pi * time[found] / 720)).sum())
        return total if heard and abs(total) > 1e-9 * abs(w.sum()) else None

    for weights in ("weight", None):
        report = run(tmp_path, "time", k=3, period=720.0, weights=weights)
        score = report.scores["encoder"]
        knn = int(score.chosen["knn_k"])
        sums = {query: told(query, knn, weighted=weights is not None) for query in reporting}
        heard = [query for query in reporting if sums[query] is not None]
        place = np.array([np.angle(sums[query]) * 720 / (2 * np.pi) for query in heard])
        apart = np.abs(place - time[heard]) % 720
        own = weight[heard] if weights else None
        assert score.silent == len(reporting) - len(heard)
        assert score.metrics["prediction_error"].value == pytest.approx(
            np.average(np.minimum(apart, 720 - apart), weights=own)
        )
        document = as_json(report)
        assert document["without_prediction"] == score.silent
        of_pixels = document["baselines"]["pixels_pca"]["without_prediction"]
        assert of_pixels == report.scores["pixels_pca"].silent
        if any(each.silent for each in report.scores.values()):
            assert "predict no place" in as_text(report)
            assert "predict no place" in page(report)
        else:
            assert "predict no place" not in as_text(report)
        if weights:
            assert sum(each.silent for each in report.scores.values()) > 0


def test_a_class_whose_weights_cancel_has_no_score_and_says_so(tmp_path: Path) -> None:
    """Their mean would be a quotient of two small remainders, and lie anywhere; the other classes keep theirs."""
    weight = np.ones(N)
    for half in halves():  # of one object little is known, though few of the weights are negative
        one = [row for row in half if KIND[row] == 0]
        weight[one] = 0.1
        weight[one[::8]] = -0.1
        weight[one[1]] = 5.0
    write(tmp_path, weight=weight)
    vectors_file(tmp_path / "mine.h5")
    report = run(tmp_path, weights="weight")
    _, reporting = halves()
    asking = [query for query in reporting if KIND[query] == 0]
    ratio = weight[asking].sum() / np.sqrt((weight[asking] ** 2).sum())
    assert ratio < 1.96
    name, others = str(NAMES[0]), {str(each) for each in NAMES[1:]}
    assert report.unscored == {name: pytest.approx(ratio)}
    for score in report.scores.values():
        assert set(score.by_class) == others
        assert all(0 <= each.value <= 1 for each in score.by_class.values())
    assert f"the queries of class {name} have no score of their own" in as_text(report)
    assert f"the queries of class {name} have no score of their own" in page(report)
    assert as_json(report)["unscored_classes"] == report.unscored
    assert run(tmp_path).unscored == {}


def test_the_significance_has_an_axis_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (drawn.append(self), Path(path).touch()))
    write(tmp_path, kind=np.where(KIND == 0, "s", "b"))
    vectors_file(tmp_path / "mine.h5")
    report = run(tmp_path, weights="weight")
    draw(report, tmp_path / "a.png")
    shares, leads, ams, ams_leads = drawn[0].axes
    for axes, of in ((shares, 4), (leads, 3)):
        assert [text.get_text() for text in axes.get_xticklabels()] == [
            "precision@10",
            "MAP",
            "nDCG@10",
            "kNN accuracy",
        ]
        assert len(axes.patches) == 4 * of
    for axes, of in ((ams, 4), (ams_leads, 3)):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["AMS"]
        assert axes.get_ylabel() == "σ"
        assert len(axes.patches) == of
    assert ams.patches[0].get_height() == pytest.approx(report.scores["encoder"].metrics["ams"].value)
    assert drawn[0].legends[0].get_texts()[0].get_text() == "lists at random"
    draw(run(tmp_path), tmp_path / "b.png")
    assert len(drawn[1].axes) == 2
