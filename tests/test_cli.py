"""The command line as a table: arguments → exit code and the one line that says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lookalike import __version__
from lookalike.cli import main
from lookalike.indexer.index import Index

Run = Callable[..., subprocess.CompletedProcess[str]]


README = Path(__file__).resolve().parent.parent / "README.md"
COMMANDS = [
    "ingest",
    "info",
    "train",
    "embed",
    "plan",
    "index",
    "search",
    "approximate",
    "verify",
    "gc",
    "repair",
    "compare",
    "export",
    "sky",
    "cone",
    "crossmatch",
    "serve",
    "app",
    "demo",
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("serch x", "No such command 'serch'"),
        ("train x.h5", "Missing option '--out'"),
        (
            "train x.h5 --out c --epoch 3",
            "Unknown option '--epoch'. Did you mean '--epochs'? Choices: --out, --encoder, --epochs, --batch-size,",
        ),
        (
            "simulate galaxies --zzz",
            "Unknown option '--zzz'. Choices: --out, --number, --seed, --size, --overwrite, --help.",
        ),
        ("simulate jets --sede 3", "Unknown option '--sede'. Did you mean '--seed'? Choices: --out, --number, --seed,"),
        ("search x --iid 3", "Unknown option '--iid'. Did you mean '--id'?"),
        ("simulate --number 3", "Unknown option '--number'. Choices: --help."),
        ("ingest images x --bnds r", "Unknown option '--bnds'. Did you mean '--bands'? Choices: --bands,"),
        ("train x.h5 --out c --epochs none", "Invalid value for '--epochs'"),
        ("train x.h5 --out c --epochs 0", "Invalid value for '--epochs': must be at least 1, but '0' was given."),
        ("serve x --port 99999", "'--port': must be at most 65535, but '99999' was given."),
        ("train x.h5 --out c --set lernrate=1", "Unknown setting 'lernrate'"),
        ("train x.h5 --out c", "No such file: x.h5"),
        ("ingest hubbel --out s.h5", "Unknown source 'hubbel'. Did you mean 'hubble'? Choices: hubble,"),
        ("ingest images nowhere --out s.h5", "nowhere"),
        ("ingest numpy a.npy --domain galaxie --out s.h5", "Unknown domain 'galaxie'. Did you mean 'galaxy'?"),
        ("embed x.h5 --checkpoint c --out e.h5", "No such"),
        ("index e.h5 --samples s.h5 --out I", "No such file: e.h5"),
        ("search nowhere --id a", "nowhere"),
        ("search nowhere", "--vector, --positive and --recipe, but none was given"),
        ("search nowhere --id a --vector v.npy", "but --id, --vector was given"),
        ("search nowhere --vector v.npy --at mag", "nowhere"),
        ("verify nowhere", "nowhere"),
        ("gc nowhere", "nowhere"),
        ("info nowhere", "No such file or folder: nowhere"),
        ("serve nowhere", "nowhere"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(command: Run, tmp_path: Path, arguments: str, message: str) -> None:
    done = command(*arguments.split(), cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("lookalike: ")
    assert message in lines[0]
    assert done.stdout == ""
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train {s} --out c --encoder resnet19", "Unknown encoder 'resnet19'. Did you mean 'resnet18'? Choices:"),
        ("train {s} --out c --queue 100000", "queue = 100,000"),
        ("train {s} --out c --batch-size 500", "batch_size is at most"),
        ("train {s} --out c --set augment.blur.sgima=2", "Unknown setting 'sgima'"),
        (
            "index {e} --samples {s} --out I --window mag",
            "column:half-width or log(column):half-width, e.g. mag:0.5, but",
        ),
        ("index {e} --samples {s} --out I --window mga:1", "Unknown column 'mga'. Did you mean 'mag'?"),
        ("index {s} --samples {s} --out I", "not an embeddings file"),
        ("index {e} --samples {e} --out I", "not a samples file"),
        ("search {i} --id blob-201", "'blob-201'"),
        ("search {i} --id blob-001 -k 0", "k must be at least 1, but 0 was given."),
        ("gc {i} --keep 0", "At least 1 version is kept, but keep = 0 was given."),
        ("gc {s}", "is not an index folder"),
        ("search {i} --id blob-001 --columns mga", "Unknown column 'mga'. Did you mean 'mag'?"),
        ("search {i} --id blob-001 --at mga=3", "Unknown window column 'mga'. Did you mean 'mag'? Choices: mag."),
        ("search {i} --id blob-001 --at mag", "--at takes column=value"),
        ("search {i} --id blob-001.png", "Did you mean 'blob-001'? Ids are file names without their ending."),
        ("search {i} --id blob1", "Did you mean 'blob-1"),
        ("search {i} --id ?", "An id here is, for instance, 'blob-000'."),
        ("search {i} --vector {s}", "is not a NumPy array: it does not begin as the .npy files of numpy.save do."),
        ("search {i} --image {s}", "built without its encoder"),
        ("serve {i} --host 0.0.0.0", "'0.0.0.0' was given"),
        ("verify {s}", "samples.h5"),
    ],
)
def test_what_does_not_fit_the_files_is_one_line_too(
    command: Run, toy_index: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    places = {"i": toy_index, "s": toy_index.parent / "samples.h5", "e": toy_index.parent / "embeddings.h5"}
    done = command(*[argument.format(**places) for argument in arguments.split()], cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert lines[0].startswith("lookalike: ")
    assert done.stdout == ""
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")]


def test_search_prints_what_the_searcher_answers(command: Run, toy_index: Path, tmp_path: Path) -> None:
    from lookalike.indexer.search import Searcher

    searcher = Searcher(toy_index)
    done = command("search", toy_index, "--id", "blob-003", "-k", 5, "--columns", "mag,label", "--json")
    found = json.loads(done.stdout)
    assert found == searcher.neighbors("blob-003", 5, columns=["mag", "label"]).to_json()
    assert {"index_version", "query", "window", "source", "k", "results"} <= set(found)
    assert set(found["results"][0]) == {
        *("rank", "id", "row", "similarity", "random_share", "random_share_below", "mag", "label"),
    }

    np.save(tmp_path / "v.npy", searcher.embeddings().vectors[3])
    placed = command("search", toy_index, "--vector", tmp_path / "v.npy", "--at", "mag=20.5", "-k", 4, "--json")
    found = json.loads(placed.stdout)
    assert found["results"][0]["id"] == "blob-003" or abs(searcher.object("blob-003")["mag"] - 20.5) > 0.5
    assert found["window"]["center"] == 20.5
    assert found["source"] == "live"

    for_people = command("search", toy_index, "--id", "blob-003", "-k", 5)
    assert [line.split()[2] for line in for_people.stdout.splitlines()] == [
        result.id for result in searcher.neighbors("blob-003", 5).results
    ]


def test_the_header_of_a_search_says_in_which_window_and_how(command: Run, toy_index: Path) -> None:
    def header(*arguments: object) -> str:
        return str(command("search", toy_index, "-k", 3, *arguments).stderr.splitlines()[-1])

    assert re.fullmatch(
        r"index version v000001, within mag ± 0.5 of mag = 2\S+, from the stored list", header("--id", "blob-003")
    )
    assert header("--id", "blob-007") == "index version v000001, in no window (no mag), from the stored list"
    placed = header("--id", "blob-007", "--at", "mag=20.5")
    assert placed == "index version v000001, within mag ± 0.5 of mag = 20.5, from a live search"


def test_what_an_index_could_not_fill_is_counted(command: Run, toy_index: Path, tmp_path: Path) -> None:
    places = [toy_index.parent / "embeddings.h5", "--samples", toy_index.parent / "samples.h5", "--out", tmp_path / "i"]
    done = command("index", *places, "--window", "mag:0.5", "-k", 1)
    said = (
        "1 of 200 objects has fewer than 1 neighbor, since fewer lie within mag ± 0.5 of it; 1 object without a value"
    )
    assert f"{said} there has none.\n" in done.stderr
    assert "k is 999 by default, but there are only 199 other objects" in command("index", *places).stderr


def test_the_domains_window_is_taken_where_none_is_named(command: Run, toy_index: Path, tmp_path: Path) -> None:
    places = [toy_index.parent / "embeddings.h5", "--samples", toy_index.parent / "samples.h5"]
    usual = command("index", *places, "-k", 60, "--out", tmp_path / "usual")
    assert "Neighbors lie within the window mag:0.5, as is usual for such objects (--window none: any" in usual.stderr
    without = command("index", *places, "-k", 60, "--window", "none", "--out", tmp_path / "without")
    assert "within" not in without.stderr
    assert Index(tmp_path / "usual").manifest.content_hash == Index(toy_index).manifest.content_hash
    assert Index(tmp_path / "without").window is None


def test_a_closed_pipe_is_silent(toy_index: Path) -> None:
    code = f"{sys.executable} -m lookalike search {toy_index} --id blob-001 -k 60 | true"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert "rror" not in done.stderr
    assert "Traceback" not in done.stderr


def test_files_that_moved_are_named_by_options(command: Run, lookalike: Run, toy_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(toy_index, tmp_path / "index"))
    asked = ("search", index, "--id", "blob-003", "-k", 5, "--json")
    for done in (command(*asked), command("verify", index), lookalike("serve", index, "--port", 0)):
        assert done.returncode == 2
        assert "nothing is now; say where with --" in done.stderr
    moved = ("--samples", toy_index.parent / "samples.h5", "--embeddings", toy_index.parent / "embeddings.h5")
    assert json.loads(command(*asked, *moved).stdout) == json.loads(
        command("search", toy_index, "--id", "blob-003", "-k", 5, "--json").stdout
    )
    assert command("verify", index, *moved).returncode == 0
    for name in ("search", "verify"):
        assert "--checkpoint" in command(name, "--help").stdout


def test_info_says_what_made_the_version_that_is_served(command: Run, toy_index: Path) -> None:
    made = json.loads(command("info", toy_index, "--json").stdout)["made"]
    assert made == json.loads((toy_index / "versions/v000001/build.json").read_text())
    assert (made["command"], made["settings"]["k"], made["settings"]["window"]) == ("index", 60, "mag:0.5")


def test_ingest_says_each_thing_once_and_keeps_what_is_there(command: Run, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.new("RGB", (20 + i, 20), (i, 0, 0)).save(tmp_path / f"photos/{i}.png")
    (tmp_path / "t.csv").write_text("file,mag\n0.png,1\n1.png,?\n2.png,2\n")
    asked = ["ingest", "images", "photos", "--catalog", "t.csv", "--out", "s.h5", "--size"]
    done = command(*asked, 32, cwd=tmp_path)
    assert done.stdout == "3 objects in s.h5\n"
    assert done.stderr.splitlines()[-4:] == [
        "Column 'mag' of t.csv is stored as text: 1 of its 3 values is no number, the first '?' in row 2 (counted from "
        "1). Only a column of numbers can be a window.",
        "1 of 4 pictures has no row in t.csv and is left out, '3.png' first.",
        "3 of 3 pictures have a side below 32 px and are enlarged.",
        "The shorter side is resized to 32 px and the center kept.",
    ]
    refused = command(*asked, 16, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "s.h5 is there already, made with other options (size)." in refused.stderr
    assert command(*asked, 16, "--overwrite", cwd=tmp_path).returncode == 0
    assert "s.h5 held exactly these objects already." in command(*asked, 16, cwd=tmp_path).stderr


def test_much_that_is_left_out_is_shown_in_part_and_listed_in_the_record(command: Run, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / f"photos/{i}.png")
    (tmp_path / "photos/3.png").write_bytes(b"PNG")
    (tmp_path / "t.csv").write_text("file\n" + "".join(f"{i}.png\n" for i in range(40)))
    done = command(
        "ingest", "images", "photos", "--catalog", "t.csv", "--out", "s.h5", "--skip-bad", cwd=tmp_path
    )  # fmt: skip
    assert done.stdout == "3 objects in s.h5\n"
    skipped = [text for text in done.stderr.splitlines() if text.startswith("skipped ")]
    assert skipped[1:] == [f"skipped {i}.png: a row of t.csv without a picture" for i in (4, 5, 6)]
    assert skipped[0].startswith("skipped 3.png")
    assert "and 33 more; all 37 are listed in s.h5.build.json\n" in done.stderr
    listed = json.loads((tmp_path / "s.h5.build.json").read_text())["left_out"]
    assert listed[1:] == [[f"{i}.png", "a row of t.csv without a picture"] for i in range(4, 40)]


def test_debug_shows_the_traceback(lookalike: Run) -> None:
    done = lookalike("--debug", "info", "nowhere")
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_a_foreign_file_is_named(command: Run, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    done = command("info", tmp_path / "x.txt")
    assert done.returncode == 2
    assert "is not one of our files" in done.stderr


def test_help_and_version(command: Run) -> None:
    assert command("--version").stdout == f"lookalike {__version__}\n"
    helped = command("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", helped)
        assert "Example: lookalike" in " ".join(command(name, "--help").stdout.split()), name


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"lookalike {name}" in text, f"README.md does not mention `lookalike {name}`"


def test_json_is_one_document_on_standard_output(command: Run, toy_index: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(toy_index.parent, tmp_path / "toy")) / toy_index.name  # verifying writes into it
    for arguments in (["info", index], ["info", tmp_path], ["verify", index]):
        done = command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)


def test_help_names_the_choices_that_errors_name(command: Run) -> None:
    from lookalike.datasets import event_rules, jet_rules
    from lookalike.ssl.architectures import ENCODERS

    def words(*asked: str) -> set[str]:
        return set(re.findall(r"\w+", command(*asked, "--help").stdout))

    assert set(ENCODERS) <= words("train")
    assert {*event_rules.UNITS, *jet_rules.UNITS} <= words("ingest")
    refused = command("ingest", "images", "photos", "--out", "s.h5", "--mode", "x")
    assert "takes no --mode. It takes: --catalog" in refused.stderr
    assert "and --out, --domain and --overwrite like every source." in refused.stderr


def test_a_damaged_source_is_wrong_input_and_a_damaged_file_of_ours_is_not(
    command: Run, toy_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.h5").write_bytes((toy_index.parent / "samples.h5").read_bytes()[:3000])
    codes = {
        ("ingest", "hdf5", "cut.h5", "--out", "s.h5"): 2,
        ("info", "cut.h5"): 1,
        ("train", "cut.h5", "--out", "c"): 1,
        ("embed", "cut.h5", "--checkpoint", "c", "--out", "e.h5"): 1,
    }
    for asked, code in codes.items():
        done = command(*asked, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr


def test_memory_that_does_not_suffice_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large(*_: object, **__: object) -> None:
        np.empty(1 << 60, np.uint8)

    monkeypatch.setattr("lookalike.cli.app", too_large)
    monkeypatch.setattr("sys.argv", ["lookalike"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("lookalike: Memory does not suffice: Unable to allocate 1.00 EiB")
    assert said.count("\n") == 1
