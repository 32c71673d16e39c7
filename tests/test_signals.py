"""`geometry cache` interrupted at random moments: it stops soon, says how to go on, and goes on to the same bytes."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from random import Random

import pytest

from tests.fork_server import ROOT
from tests.fork_server import server as fork_server
from tests.recordings import Reference, names_in, plan_of

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="module")
def server(model_folders):
    return fork_server(model_folders["gpt2"])


@pytest.fixture(scope="module")
def arguments(model_folders, gpt2, tmp_path_factory):
    """The command of a recording of sixty blocks, as `recordings.plan_of` plans it."""
    prompts = tmp_path_factory.mktemp("prompts") / "p.txt"
    prompts.write_text("\n".join(prompt.text for prompt in plan_of(gpt2).tokenized.prompts))
    model = ["--model", str(model_folders["gpt2"]), "--dataset", str(prompts)]
    return ["cache", *model, "--out", "a.h5", "--batch-tokens", "18"]


@pytest.fixture(scope="module")
def reference(server, arguments, gpt2, tmp_path_factory):
    seconds = []

    def make(number):
        folder = tmp_path_factory.mktemp(f"whole-{number}")
        ended = server.command(folder, *arguments)
        assert ended["code"] == 0, ended["err"]
        seconds.append(ended["seconds"])
        return folder / "a.h5"

    made = Reference(make, plan_of(gpt2))
    seconds += [server.command(tmp_path_factory.mktemp("timed"), *arguments)["seconds"] for _ in range(2)]
    made.seconds = min(seconds)
    return made


def interrupted(server, arguments, reference, folder, number, after):
    """Interrupt the command once, check what it says and leaves, let it go on, and name what happened."""
    folder.mkdir()
    ended = server.command(folder, *arguments, after=after, number=number)
    told = ended["err"].splitlines()
    what = outcome(ended["code"], told, number, reference.state(folder / "a.h5"), folder)
    assert what, (number, after, ended)
    assert ended["lag"] < 60  # or it hangs
    assert "Traceback" not in ended["err"]
    go_on = told[-1].split("go on with: geometry ")[1] if what == "stopped" else shlex.join(arguments)
    resumed = server.command(folder, *shlex.split(go_on))
    assert resumed["code"] == 0, resumed["err"]
    assert names_in(folder) == ["a.h5"]
    assert reference.same(folder / "a.h5")
    return what


def outcome(code, told, number, state, folder):
    """What happened; None if it should not have."""
    left = names_in(folder)
    stopping = [line for line in told if line.startswith("stopped after ")]
    if code == 0 and left == ["a.h5"]:
        return "done before"
    if code == 128 + number and stopping == told[-1:] and left == ["a.h5"] and state != "unreadable":
        return "stopped"
    if (
        code == 128 + number
        and told[-1].startswith("stopped before recording began; begin with: geometry")
        and not left
    ):
        return "stopped before recording"
    if code == 130 == 128 + number and not stopping and told[-1].startswith("interrupted"):
        return "outside recording"  # before the first import, or after the last block
    if code == -number and number != signal.SIGINT and left in ([], ["a.h5"]) and state in ("absent", "complete"):
        return "died outside recording"
    return None


def interrupt_all(server, arguments, reference, folder, n, seed):
    """Interrupt until `n` signals came before the command was done; what happened, and how often."""
    random, seen = Random(seed), Counter()
    while (trial := seen.total()) - seen["done before"] < n:
        after = random.uniform(0, reference.seconds)
        number = SIGNALS[trial % len(SIGNALS)]
        what = interrupted(server, arguments, reference, folder / str(trial), number, after)
        seen[what if what == "done before" else f"{number.name} {what}"] += 1
    return seen


def test_a_signal_at_any_moment_stops_the_command_which_says_how_to_go_on_to_the_same_bytes(
    server, arguments, reference, tmp_path
):
    assert set(interrupt_all(server, arguments, reference, tmp_path, 5, seed=3)) - {"done before"}


@pytest.mark.slow
def test_a_hundred_signals_each_stop_the_command_and_every_resume_is_byte_identical(
    server, arguments, reference, tmp_path
):
    begun = time.monotonic()
    seen = interrupt_all(server, arguments, reference, tmp_path, 100, seed=4)
    print(f"\nR13: {dict(sorted(seen.items()))}; all resumes byte-identical; {time.monotonic() - begun:.0f} s")  # noqa: T201
    assert {f"{number.name} stopped" for number in SIGNALS} <= set(seen)


@pytest.mark.slow
def test_ctrl_c_while_the_program_imports_and_loads_is_one_line(arguments, tmp_path):
    program = "from geometry.cli import main; print('begun', flush=True); main()"
    random = Random(6)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "begun\n"
            time.sleep(random.uniform(0.02, 3))  # typer, torch, transformers, the model
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=60)[1]
        assert (process.returncode, err.count("\n")) == (130, 1), err
        assert "Traceback" not in err
