"""Files of unknown origin are read in a process of their own: it may crash, hang or swell, and this one goes on."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cache import plan_recording, record, verify_store
from cache.errors import CorruptFileError, NotAvailableError
from geometry.cli.console import apart_tasks
from geometry.cli.console.apart import read_apart


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "a.h5"
    record(gpt2, plan_recording(gpt2, ["1,2,3,", "one two"], sites="resid_post,z", batch_tokens=8), path)
    return path


@pytest.fixture
def child_that(tmp_path, monkeypatch):
    """Put a shell script in the place of the child's interpreter."""

    def put(script: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return put


def test_a_child_tells_the_same_as_this_process(store):
    steps: list[tuple[int, int]] = []
    told = read_apart("verification", store, on_step=lambda done, total: steps.append((done, total)))
    sound = verify_store(store)
    assert told == {"n_blocks": sound.n_blocks, "n_committed": sound.n_blocks, "damage": []}
    assert steps == [(done, 6) for done in range(1, 7)]
    assert read_apart("facts", store) == apart_tasks.facts(store)


def test_damage_is_told_with_part_block_and_rows(store, tmp_path):
    import h5py

    with h5py.File(store) as file:
        place = file["activations/blocks.1.attn.hook_z"].id.get_offset()
    content = bytearray(store.read_bytes())
    content[place] ^= 1
    (tmp_path / "b.h5").write_bytes(content)
    (part, block, rows) = read_apart("verification", tmp_path / "b.h5")["damage"][0]
    assert part == "activations/blocks.1.attn.hook_z"
    assert [part, block, tuple(rows)] == [
        *(lambda damage: (damage.part, damage.block, damage.rows))(verify_store(tmp_path / "b.h5").damage[0])
    ]
    assert read_apart("verification", tmp_path / "b.h5", "quick")["damage"] == []


def test_the_childs_refusals_are_raised_here_as_they_are(tmp_path):
    with pytest.raises(NotAvailableError, match="is not there; give an"):
        read_apart("facts", tmp_path / "a.h5")
    (tmp_path / "b.h5").write_text("nothing")
    with pytest.raises(CorruptFileError, match="is not an HDF5 file"):
        read_apart("verification", tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("kill -SEGV $$", r"a\.h5 ends the process that reads it \(signal 11\); do not open it"),
        ("echo '{\"step\": [1, 2]}'; printf '{\"res'; kill -ABRT $$", r"a\.h5 ends the process .* \(signal 6\)"),
        ("yes complaint | head -c 300000 >&2; kill -SEGV $$", r"a\.h5 ends the process .* \(signal 11\)"),
        ("kill -XCPU $$", r"a\.h5 takes longer to read than a store of its size can; do not open it"),
    ],
)
def test_a_childs_death_is_told_in_a_sentence(child_that, script, told):
    child_that(script)
    with pytest.raises(CorruptFileError, match=told) as refusal:
        read_apart("facts", Path("a.h5"))
    assert refusal.value.exit_code == 4


def test_a_fault_of_ours_in_the_child_is_not_taken_for_the_files(child_that):
    child_that("echo Traceback: our fault >&2; exit 1")
    with pytest.raises(RuntimeError, match="our fault"):
        read_apart("facts", Path("a.h5"))


def test_an_unknown_refusal_cannot_name_anything_else_than_an_error_of_ours(child_that):
    child_that("""echo '{"error": "SystemExit", "message": "x"}'""")
    with pytest.raises(Exception, match="x") as refusal:
        read_apart("facts", Path("a.h5"))
    assert type(refusal.value).__name__ == "GeometryError"


def in_child(store: Path, setup: str, seconds: int = 10) -> subprocess.CompletedProcess[str]:
    """The child's program with a task of the test's own."""
    script = f"""
import sys
from pathlib import Path
from geometry.cli.console import apart_tasks
def task(path):
    {setup}
apart_tasks.TASKS["facts"] = task
apart_tasks._SECONDS = {seconds}
sys.argv = ["child", "facts", {str(store)!r}]
apart_tasks.main()
"""
    root = Path(apart_tasks.__file__).parents[3]
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False)


def test_more_memory_than_the_files_size_explains_is_refused(store):
    done = in_child(store, "return {'n': len(bytearray(4 << 30))}")
    assert json.loads(done.stdout)["error"] == "CorruptFileError"
    assert "takes more memory to read than a store of its size can" in done.stdout
    assert json.loads(in_child(store, "return {'n': len(bytearray(64 << 20))}").stdout) == {"result": {"n": 64 << 20}}


def test_more_time_than_the_files_size_explains_ends_the_child(store):
    done = in_child(store, "while True: pass", seconds=1)
    assert done.returncode == -24
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY, "the limit is the child's alone"


@pytest.mark.parametrize("task", ["facts", "verification"])
def test_a_store_is_looked_at_without_loading_torch(store, task):
    """Which would take the seconds that the answer is there in."""
    code = "from geometry.cli.console.apart_tasks import TASKS; from pathlib import Path; "
    code += f"TASKS[{task!r}](Path({str(store)!r}))"
    words = [sys.executable, "-c", code + "; import sys; print(*sys.modules, file=sys.stderr)"]
    loaded = set(subprocess.run(words, capture_output=True, text=True, check=True).stderr.split())
    assert "cache.store.file" in loaded
    assert loaded & {"torch", "transformers", "xarray", "sklearn"} == set()


def test_a_folder_named_cache_where_the_user_is_is_not_imported(store, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "__init__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    assert read_apart("facts", store)["complete"] is True


def test_a_name_in_a_file_cannot_steer_the_terminal(gpt2, tmp_path, monkeypatch, capsys):
    from geometry.cli import main

    monkeypatch.setattr(sys, "argv", ["geometry", "\x1b]0;owned\x07"])
    record(gpt2, plan_recording(gpt2, ["one"], sites="resid_post"), tmp_path / "a.h5")
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path / "a.h5")])
    assert "\x1b" not in capsys.readouterr().out


def test_no_process_is_left_behind(store, monkeypatch):
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def noted(*words, **options):
        started.append(start(*words, **options))
        return started[-1]

    def stop(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", noted)
    read_apart("facts", store)
    with pytest.raises(KeyboardInterrupt):
        read_apart("verification", store, on_step=stop)
    assert [one.returncode is None for one in started] == [False, False]
    for one in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(one.pid, os.WNOHANG)
