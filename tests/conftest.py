"""Fixtures several test files share."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# Of several processes that share the cores each computes on one thread: more would mostly wait for each other, spinning
# (a third of the work was left where they did not). OpenMP and OpenBLAS read this when NumPy, torch or faiss is loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

# The same examples every time, and none is late on a loaded machine; --hypothesis-profile=explore looks for new ones.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("same")

# A shell starts its background jobs with Ctrl-C ignored, and they their children, which are to be ended by it here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data some tests use; they skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    return folder


@pytest.fixture
def lookalike() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own: lookalike("info", path) → return code, stdout, stderr."""

    def run(
        *arguments: object, cwd: Path | None = None, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lookalike", *map(str, arguments)]
        env = os.environ | environment
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=env, check=False)

    return run


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command within this process, which spares the imports; otherwise as `lookalike` does."""
    from lookalike.cli import main

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setattr("sys.argv", ["lookalike", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess([], int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def children() -> multiprocessing.context.ForkServerContext:
    """Processes that start with torch already imported, without this process's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lookalike.ssl.train", "lookalike.ssl.embed"])
    first = context.Process(target=int)  # starts the server, so that later ones are timed without its imports
    first.start()
    first.join()
    return context


@pytest.fixture(scope="session")
def toy_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index folder of 200 drawn blobs, built as real ones are; treat it as read-only.

    Catalog: x, y (px, so that footprints are known), mag (one NaN: blob-007), size, and label, a text column that
    holds markup. Vectors are three features worked out by hand: size, ellipticity, color. Window mag:0.5, k = 60.
    """
    import numpy as np

    from lookalike.embeddings import write_embeddings
    from lookalike.indexer.index import build_index
    from lookalike.samples import About, Column
    from lookalike.samples_writer import write_samples

    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(7)
    n, side = 200, 32
    size, ratio, hue = rng.uniform(1.5, 6, n), rng.uniform(0.3, 1, n), rng.uniform(0.2, 1, n)
    angle, mag = rng.uniform(0, np.pi, n), rng.uniform(20, 21.5, n)
    mag[7] = np.nan
    position = rng.uniform(0, 400, (2, n))
    v, u = np.mgrid[:side, :side] - (side - 1) / 2
    images = np.empty((n, 3, side, side), np.uint8)
    for i in range(n):
        along = u * np.cos(angle[i]) + v * np.sin(angle[i])
        across = (v * np.cos(angle[i]) - u * np.sin(angle[i])) / ratio[i]
        blob = 230 * np.exp(-(along**2 + across**2) / (2 * size[i] ** 2)) + rng.uniform(0, 18, u.shape)
        images[i] = np.stack([blob, blob * (0.4 + hue[i] / 2), blob * hue[i]])
    ids = [f"blob-{i:03d}" for i in range(n)]
    labels = np.array(["<img src=x onerror=alert(1)>", "<script>alert(2)</script>", "round", "']})\"--"])
    columns = {
        "x": Column("px", "Center, 0-based from the left"),
        "y": Column("px", "Center, 0-based from the top"),
        "mag": Column("mag", "Magnitude the blob was drawn with", "phot.mag"),
        "size": Column("px", "Gaussian width"),
        "label": Column("", "Text that must never be taken for markup"),
    }
    about = About(domain="galaxy", bands=("r", "g", "b"), pixel_scale=0.1, source="Blobs <b>drawn</b> for the tests")
    catalog = {"x": position[0], "y": position[1], "mag": mag, "size": size, "label": labels[np.arange(n) % 4]}
    with write_samples(folder / "samples.h5", about, columns) as writer:
        writer.append(ids, images, catalog)
        made = np.array(ids, dtype="S")
    features = np.stack([size / 3, 2 * ratio, 3 * hue], axis=1) - 1.0
    write_embeddings(folder / "embeddings.h5", made, iter([features]), dimensions=3)
    build_index(folder / "embeddings.h5", [folder / "samples.h5"], folder / "index", k=60, window="mag:0.5", quiet=True)
    return folder / "index"


@pytest.fixture
def vector_set(tmp_path: Path) -> Callable[..., tuple[Path, list[Path]]]:
    """Write vectors (N, D) with catalog columns as embeddings and samples shards; returns both places.

    shards : {file name: number of objects}, whose sum is N. Images are tiny, since nobody looks at them.
    """
    return write_vector_set(tmp_path)


@pytest.fixture(scope="session")
def vector_set_in() -> Callable[[Path], Callable[..., tuple[Path, list[Path]]]]:
    """As `vector_set`, in a folder of one's own: what several tests share lies outside their own."""
    return write_vector_set


def write_vector_set(folder: Path) -> Callable[..., tuple[Path, list[Path]]]:
    def write(
        vectors: Any,
        columns: dict[str, Any],
        *,
        shards: dict[str, int] | None = None,
        dtype: str = "float32",
        domain: str = "image",
    ) -> tuple[Path, list[Path]]:
        from lookalike.embeddings import write_embeddings
        from lookalike.samples import About, Column, Samples
        from lookalike.samples_writer import write_samples

        shards = shards or {"samples.h5": len(vectors)}
        pixel_scale = 1.0 if "ra" in columns else None
        about = About(domain=domain, bands=("v",), pixel_scale=pixel_scale)
        start = 0
        for name, n in shards.items():
            part = slice(start, start + n)
            units = {column: Column("px" if column in ("x", "y") else "") for column in columns}
            with write_samples(folder / name, about, units) as writer:
                ids = [f"o{row}" for row in range(start, start + n)]
                images = np.full((n, 1, 16, 16), 7, np.uint8)
                writer.append(ids, images, {column: values[part] for column, values in columns.items()})
            start += n
        paths = [folder / name for name in shards]
        samples = Samples(paths)
        rows = [int(name[1:]) for name in samples.ids.astype(str)]
        write_embeddings(
            folder / "embeddings.h5",
            samples.ids,
            (vectors[rows[first : first + 4096]] for first in range(0, len(rows), 4096)),
            dimensions=vectors.shape[1],
            dtype=dtype,
            made_from={"samples": samples.content_hash},
        )
        return folder / "embeddings.h5", paths

    return write


@pytest.fixture(scope="session")
def serving() -> Callable[..., contextlib.AbstractContextManager[str]]:
    """Run an ASGI application on a free port of this machine: `with serving(app) as url:`."""
    import uvicorn

    @contextlib.contextmanager
    def serve(app: object, port: int = 0) -> Iterator[str]:
        # asyncio turns off Nagle's delay (40 ms an answer) only on sockets that say they are TCP.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", port))
            config = uvicorn.Config(app, access_log=False, log_config=None, ws="none", timeout_graceful_shutdown=5)  # type: ignore[arg-type]
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            try:
                while not server.started and thread.is_alive():
                    time.sleep(0.005)
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join(10)
        assert not thread.is_alive()

    return serve


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port of this machine nobody listens on: free_port()."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def write_blobs() -> Callable[..., Path]:
    """Write a samples file of n drawn galaxies into a folder: as `blob_samples`, for what several tests share."""
    from lookalike.samples import About, Column
    from lookalike.samples_writer import write_samples

    def write(
        folder: Path,
        name: str = "samples.h5",
        n: int = 64,
        size: int = 24,
        *,
        domain: str = "galaxy",
        dtype: str = "uint8",
        bands: str = "RGB",
        seed: int = 0,
        unit: str = "",
        pixel_scale: float | None = None,
        prefix: str = "b",
        quarters: int = 0,
    ) -> Path:
        random = np.random.default_rng(seed)
        grid = np.arange(size) - (size - 1) / 2
        width = np.exp(random.uniform(np.log(1.2), np.log(size / 6), (n, 2)))  # (N, 2) σ in px
        angle, bright = random.uniform(0, np.pi, n), random.uniform(60, 200, n)
        color = random.uniform(0.2, 1, (n, len(bands)))
        u = np.cos(angle)[:, None, None] * grid + np.sin(angle)[:, None, None] * grid[:, None]
        v = np.cos(angle)[:, None, None] * grid[:, None] - np.sin(angle)[:, None, None] * grid
        profile = np.exp(-0.5 * ((u / width[:, :1, None]) ** 2 + (v / width[:, 1:, None]) ** 2))  # (N, H, W)
        images = 12 + (bright[:, None] * color)[:, :, None, None] * profile[:, None]
        images = np.clip(images + random.normal(0, 3, images.shape), 0, 255).astype(dtype)  # (N, C, H, W)
        images = np.rot90(images, quarters, (2, 3))
        survey = {"psf_sigma": dict.fromkeys(bands, 0.8), "noise": dict.fromkeys(bands, 3.0)}
        about = About(
            domain=domain, bands=tuple(bands), unit=unit, pixel_scale=pixel_scale, source="drawn", survey=survey
        )
        with write_samples(folder / name, about, {"mag": Column("mag", "brightness")}) as writer:
            writer.append([f"{prefix}{row:04d}" for row in range(n)], images, {"mag": 20 - np.log(bright)})
        return folder / name

    return write


@pytest.fixture
def blob_samples(write_blobs: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a samples file of n drawn galaxies, each of its own shape and color, turned by so many right angles."""
    return partial(write_blobs, tmp_path)


@pytest.fixture(scope="session")
def on_one_thread() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """As `one_thread`, for what several tests share: `with on_one_thread():`."""
    import torch

    @contextlib.contextmanager
    def limited() -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    return limited


@pytest.fixture
def one_thread(on_one_thread: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """Let torch compute on one thread, on which its sums have one order."""
    with on_one_thread():
        yield


@pytest.fixture
def faiss_on_one_thread() -> Iterator[None]:
    """Blocks as small as a test's lose more to a second thread than they gain, on a busy machine tenfold."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


# Files that take longest. They come first, so that at the end no process is left alone with a long one.
LONG_FILES = (
    "test_ssl_world",
    "test_demo",
    "test_webapp_browser",
    "test_ssl_importing",
    "test_probes_invariance",
    "test_ssl_train",
    "test_ssl_exporting",
    "test_ssl_crash",
    "test_bench",
    "test_ssl_embed_folder",
    "test_jets_pipeline",
    "test_ssl_find_lr",
    "test_service_process",
    "test_ssl_exporting_events",
    "test_bench_domains",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the others in their order."""
    place = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
