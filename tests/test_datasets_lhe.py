"""Hard events in Les Houches files, showered by Pythia and clustered: whole files only, each event by its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from lookalike.datasets import ingest
from lookalike.errors import InputError
from lookalike.samples import Samples

pytest.importorskip("pythia8mc", reason="the extra simulate is not installed")
pytest.importorskip("fastjet", reason="the extra simulate is not installed")

HEAD = """<LesHouchesEvents version="1.0">
<init>
 2212 2212 6.500000e+03 6.500000e+03 0 0 0 0 3 1
 1.000000e+00 1.000000e-02 1.000000e+00 1
</init>
"""
TAIL = "</LesHouchesEvents>\n"


def event(pt: float, phi: float, pdg: int = 21) -> str:
    """g g → two partons back to back at η = 0, each of this pT (GeV)."""
    colors = [(101, 102), (103, 101), (103, 104), (104, 102)] if pdg == 21 else [(101, 102), (102, 103)]
    if pdg != 21:
        colors += [(101, 0), (0, 103)]
    lines = [
        f" 21 -1 0 0 {colors[0][0]} {colors[0][1]} 0 0 {pt:.8e} {pt:.8e} 0 0 9",
        f" 21 -1 0 0 {colors[1][0]} {colors[1][1]} 0 0 {-pt:.8e} {pt:.8e} 0 0 9",
    ]
    for which, sign in ((2, 1), (3, -1)):
        px, py = sign * pt * np.cos(phi), sign * pt * np.sin(phi)
        code = pdg if which == 2 or pdg == 21 else -pdg
        lines.append(f" {code} 1 1 2 {colors[which][0]} {colors[which][1]} {px:.8e} {py:.8e} 0 {pt:.8e} 0 0 9")
    return f"<event>\n 4 1 1.0 {pt:.4e} 7.8e-03 1.1e-01\n" + "\n".join(lines) + "\n</event>\n"


def written(path: Path, *events: str, head: str = HEAD, tail: str = TAIL) -> Path:
    text = head + "".join(events) + tail
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


EVENTS = [event(900 + 40 * row, 0.4 * row, pdg=21 if row % 2 else 1) for row in range(8)]


def test_partons_become_two_jets_of_their_momentum(tmp_path: Path) -> None:
    out = tmp_path / "s.h5"
    report = ingest("jets", [written(tmp_path / "e.lhe", *EVENTS)], out, quiet=True)
    samples = Samples(out)
    assert (len(samples), samples.about.survey["algorithm"]) == (8, "anti-kT")
    assert any("showered" in note for note in report.notes)
    # Radiation out of the cone takes some, the underlying event gives some back.
    ratio = (samples.column("pt") + samples.column("pt_2")) / (2 * (900 + 40 * np.arange(8)))
    assert (ratio > 0.6).all()
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    apart = np.abs(np.angle(np.exp(1j * (samples.column("phi") - samples.column("phi_2")))))
    assert np.median(apart) > 2.8
    assert (samples.column("n_constituents") > 20).all()
    assert (samples.column("weight") == 1).all()


def test_compressed_and_not_give_the_same_events(tmp_path: Path) -> None:
    hashes = []
    for name in ("e.lhe", "e.lhe.gz"):
        out = tmp_path / f"{name}.h5"
        hashes.append(ingest("jets", [written(tmp_path / name, *EVENTS[:4])], out, quiet=True).content_hash)
    assert hashes[0] == hashes[1]


def test_an_event_follows_from_its_place_alone(tmp_path: Path) -> None:
    for n in (3, 5):
        ingest("jets", [written(tmp_path / f"{n}.lhe", *EVENTS[:n])], tmp_path / f"{n}.h5", quiet=True)
    few, more = Samples(tmp_path / "3.h5"), Samples(tmp_path / "5.h5")
    np.testing.assert_array_equal(few.objects(np.arange(3)), more.objects(np.arange(3)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.lhe", (HEAD + EVENTS[0] + EVENTS[1][:90]).encode(), "was cut off"),
        ("open.lhe", (HEAD + EVENTS[0]).encode(), "was cut off"),
        ("none.lhe", (HEAD + TAIL).encode(), "lists no events"),
        ("page.lhe", b"<html>\n</html>\n", "is no Les Houches file"),
        ("empty.lhe", b"", "is no Les Houches file"),
        ("binary.lhe", bytes(range(128, 256)), "cannot be read as a Les Houches file"),
        ("cut.lhe.gz", gzip.compress((HEAD + "".join(EVENTS) + TAIL).encode())[:-40], "cannot be read as a Les"),
        ("plain.lhe.gz", (HEAD + EVENTS[0] + TAIL).encode(), "cannot be read as a Les Houches file"),
        ("beams.lhe", ("<LesHouchesEvents>\n<init>\n</init>\n" + EVENTS[0] + TAIL).encode(), "no beams that Pythia"),
        ("words.lhe", (HEAD + "<event>\n some words\n</event>\n" + TAIL).encode(), "that Pythia cannot read"),
    ],
)
def test_broken_and_foreign_files_are_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        ingest("jets", [tmp_path / name], tmp_path / "s.h5", quiet=True)
    assert "\n" not in refused.value.message
    assert [path.name for path in tmp_path.iterdir()] == [name]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "PYTHIA" not in printed.err  # the library's own banner and complaints


def test_events_are_no_jets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds whole events, which are clustered"):
        ingest("jets", [written(tmp_path / "e.lhe", EVENTS[0])], tmp_path / "s.h5", mode="jets", quiet=True)


def test_without_pythia_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pythia8mc", None)
    with pytest.raises(InputError, match=r"Pythia, which is not installed: .*simulate"):
        ingest("jets", [written(tmp_path / "e.lhe", EVENTS[0])], tmp_path / "s.h5", quiet=True)
