"""What a user's environment holds changes neither what the program does nor how it ends."""

import os
import subprocess
import sys

import pytest

from cache import SequenceDesign, load_dataset, plan_recording, record
from cache.families.family import FAMILIES
from tests.fork_server import ROOT
from tests.variants import some


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    design = SequenceDesign((FAMILIES["digits"],), ("quote",), lengths=(2,), starts=(1, 2, 3, 4), templates=2)
    path = tmp_path_factory.mktemp("store") / "a.h5"
    plan = plan_recording(gpt2, load_dataset("digits,numwords", design), sites="resid", positions="members")
    record(gpt2, plan, path)
    return path


@pytest.fixture
def shell(tmp_path):
    """Run a line of bash, in which $G is the program; gives its result."""

    def shell(line, **settings):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "G": f"{sys.executable} -m geometry", **settings}
        command = ["bash", "-c", f"set -o pipefail; {line}"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done

    return shell


def pca(store, *more):
    return " ".join(["pca", str(store), "--layers 2 --model none --quiet", *more])


def contents(folder):
    """All that is written, byte by byte."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_inherited_settings_and_a_home_that_cannot_be_written_change_no_byte_of_a_figure(
    store, shell, run_here, tmp_path
):
    assert run_here(*pca(store, "--out ../plain").split())[0] == 0
    settings = "figure.dpi: 30\naxes.facecolor: red\nfont.size: 3\nsavefig.dpi: 17\nbackend: module://more_nonsense\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    foreign = {
        "MPLBACKEND": "nonsense",
        "SOURCE_DATE_EPOCH": "yesterday",
        "NUMBA_NUM_THREADS": "0",
        "PYTHONWARNINGS": "error",
        "COLUMNS": "20",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "0",
        "PYTHONIOENCODING": "ascii",
        "HOME": "/proc/self",
        "MPLCONFIGDIR": "/proc/self",
    }
    done = shell("$G " + pca(store, "--out foreign"), **foreign)
    ours = [line for line in done.stderr.splitlines() if line and not line.startswith(b"libgomp")]
    assert (done.returncode, ours) == (0, [])
    assert contents(tmp_path / "foreign") == contents(tmp_path / "plain")


def test_settings_that_matplotlib_cannot_read_are_told_before_the_work(store, shell, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    done = shell("$G " + pca(store))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(b"error: matplotlib cannot be loaded (")
    assert not (tmp_path / "figures").exists()


@pytest.mark.slow
def test_the_library_leaves_the_users_backend_alone(shell):
    look = "import os, geometry.report; print(os.environ['MPLBACKEND'])"
    assert shell(f'{sys.executable} -c "{look}"', MPLBACKEND="svg").stdout == b"svg\n"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["module://nonsense", "tkagg", "module://matplotlib_inline.backend_inline"])
def test_a_backend_that_is_named_elsewhere_is_never_looked_for(store, shell, tmp_path, backend):
    (tmp_path / "matplotlibrc").write_text("backend: module://more_nonsense\n")
    done = shell("$G " + pca(store), MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "figures" / "a-pca" / "scatter.png").exists()


ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]


@pytest.mark.parametrize("settings", some(ASCII, ASCII[1]), ids=str)
def test_what_the_terminals_encoding_cannot_hold_is_escaped(shell, tmp_path, settings):
    (tmp_path / "numbers.txt").write_text("zwölf\nfünf\neins\nzwei\ndrei\nvier\n", encoding="utf-8")
    settings |= {"PYTHONCOERCECLOCALE": "0"}
    done = shell(
        "$G prompts --dataset family:numbers.txt --frame list --length 2; $G umap --help", **settings, COLUMNS="20"
    )
    assert done.returncode == 0, done.stderr.decode()
    assert rb"zw\xf6lf" in done.stdout


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("$G prompts --dataset digits > /dev/full", 7, "error: no room to write to standard output"),
        ("$G info nothing.h5 2> /dev/full", 3, ""),
        ("$G prompts --dataset digits >&-", 0, "30 prompts: 30 digits; "),
        ("$G prompts --dataset digits <&- >&- 2>&-", 0, ""),
        ("$G info nothing.h5 2>&-", 3, ""),
    ],
)
def test_streams_that_are_full_or_closed_end_in_a_code_and_a_sentence_at_most(shell, line, code, told):
    done = shell(line)
    err = done.stderr.decode()
    assert (done.returncode, err.startswith(told), err.count("\n")) == (code, True, bool(told)), err


@pytest.mark.parametrize("line", ["prompts --dataset digits --json", "--help"])
def test_a_pipe_that_nobody_reads_ends_the_program_quietly(tmp_path, line):
    unread, pipe = os.pipe()
    os.close(unread)
    command = [sys.executable, "-m", "geometry", *line.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=subprocess.PIPE, check=False)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_file_is_not_opened_as_a_stream_that_was_closed(shell, tmp_path):
    done = shell("$G prompts --dataset digits --out p.jsonl <&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "p.jsonl").read_text().startswith('{"text"')


def test_libraries_are_loaded_with_few_searches_for_garbage():
    counted = "import pandas, gc; print(gc.get_stats()[0]['collections'])"
    searches = [
        int(subprocess.check_output([sys.executable, "-c", before + counted], cwd=ROOT))
        for before in ("", "from geometry.cli.console.surroundings import settle; settle(); ")
    ]
    assert searches[1] < searches[0] / 4
