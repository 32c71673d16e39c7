"""A process that has imported everything and loaded a model, and forks a child for every trial.

A trial costs what the child does, not Python's start; and the fork happens where no test runner's thread is alive.
Run as `python -m tests.fork_server FOLDER`; use through `server`.
"""

import atexit
import functools
import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOBODY = 65534
HELD_AT = 20  # the block after which a recording waits while the file `hold` is there


class ForkServer:
    """Tells a warm process to fork a child that does a task, and hears how it ended."""

    def __init__(self, folder):
        # a child forked from a process whose products ran on several threads waits for these for ever
        one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
        # two threads of one child would spin where they wait, on cores that others want
        environment = {**os.environ, **one_thread, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, "-m", "tests.fork_server", str(folder)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._n_started, self._said = 0, {}
        assert self.process.stdout.readline() == "ready\n"

    def start(self, task, cwd, *, uid=None, file_limit=None, **arguments):
        """Begin a task in folder `cwd`, as user `uid` with files of at most `file_limit` bytes; returns its pid.

        What it says goes to two files beside the folder.
        """
        self._n_started += 1
        said = f"{str(cwd).rstrip('/')}-{self._n_started}"
        request = {"task": task, "cwd": str(cwd), "uid": uid, "file_limit": file_limit, "said": said}
        pid = self._ask({**request, "arguments": arguments})["pid"]
        self._said[pid] = said
        return pid

    def result(self, pid, *, after=None, number=signal.SIGKILL):
        """How a task ended: code (negative: died of that signal), seconds, lag after the signal, out, err.

        With `after` it is sent a signal so many seconds from now.
        """
        reply = self._ask({"task": "wait", "pid": pid, "after": after, "number": int(number)})
        said = self._said.pop(pid)
        for name in ("out", "err"):
            reply[name] = Path(f"{said}.{name}").read_text(errors="surrogateescape")
        return reply

    def run(self, task, cwd, *, after=None, number=signal.SIGKILL, **options):
        return self.result(self.start(task, cwd, **options), after=after, number=number)

    def command(self, cwd, *arguments, **options):
        """Run `geometry` with these arguments in folder `cwd`."""
        return self.run("command", cwd, argv=[str(argument) for argument in arguments], **options)

    def _ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@functools.cache
def server(folder):
    """The server of a model folder, one for all test files of this process."""
    made = ForkServer(folder)
    atexit.register(made.close)
    return made


def serve(folder):
    from cache import load_model
    from tests import recordings  # noqa: F401  # imported here once and not in every child

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model = load_model(folder, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:  # runs every import of the commands
        _run_through(["cache", "--model", folder, "--dataset", "digits", "--quiet", "--out", f"{scratch}/a.h5"])
        _run_through(["pca", f"{scratch}/a.h5", "--layers", "1", "--quiet", "--out", f"{scratch}/pca"])
    gc.freeze()  # else a child's search for garbage copies all that is here
    replies.write("ready\n")
    replies.flush()
    begun = {}
    for request in map(json.loads, sys.stdin):
        replies.write(json.dumps((_wait if request["task"] == "wait" else _start)(model, request, begun)) + "\n")
        replies.flush()


def _run_through(argv):
    from geometry.cli import main

    try:
        main(argv)
    except SystemExit as left:
        if left.code:
            raise


def _start(model, request, begun):
    begins, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(_child(model, request, tell))
    os.close(tell)
    os.read(begins, 1)
    os.close(begins)
    begun[child] = time.monotonic()
    return {"pid": child}


def _wait(model, request, begun):
    child, struck = request["pid"], time.monotonic()
    if request["after"] is not None:
        time.sleep(request["after"])
        os.kill(child, request["number"])  # not waited for yet: the number is still the child's
        struck = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    now = time.monotonic()
    return {"code": code, "seconds": now - begun.pop(child), "lag": now - struck, "pid": child}


def _child(model, request, tell):
    _become(request)
    code = 1
    try:
        os.write(tell, b".")
        code = TASKS[request["task"]](model, **request["arguments"])
    except SystemExit as left:
        code = left.code
    except BaseException:  # told as Python tells it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


def _become(request):
    """A program as a shell starts it: signals at their defaults, a folder, a user, limits, and its output."""
    import resource

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for target, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{request['said']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), target)
    os.chdir(request["cwd"])
    if request["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"], resource.RLIM_INFINITY))
    if request["uid"] is not None:
        os.setgroups([])
        os.setgid(request["uid"])
        os.setuid(request["uid"])


def _code(model, code):
    """Any code, where all is imported and no annotation is checked, as users have it."""
    exec(code, {})
    return 0


def _command(model, argv, hold_at=None):
    """Run the program; with `hold_at` it waits, and says so in a file `held`, once so many sites of a loop are done."""
    from geometry.cli import main
    from geometry.results import over

    unit, done = over._unit, []

    def held(*given):
        found = unit(*given)
        done.append(found)
        if len(done) == hold_at:
            Path("held").touch()
            time.sleep(600)
        return found

    over._unit = held
    sys.argv = ["geometry", *argv]
    main()


def _held(model, argv, n_kept, hold):
    """The command, which waits once it has kept so many sites, while the file `hold` is there; `hold`.there says so."""
    from geometry.results import over

    write, kept = over.write_whole, []

    def write_and_wait(path, content):
        if path.suffix == ".npz" and len(kept) == n_kept and Path(hold).exists():
            Path(f"{hold}.there").touch()
            while Path(hold).exists():
                time.sleep(0.01)
        kept.extend([path] if path.suffix == ".npz" else [])
        return write(path, content)

    over.write_whole = write_and_wait
    _command(model, argv)


def _record(model, path, log="/dev/null", size="kills", hold=None, leash=None, threads=1):
    import torch

    from cache import record
    from cache.errors import GeometryError
    from tests.recordings import plan_of

    torch.set_num_threads(threads)
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def on_forward(*_):
        os.write(log, b"forward\n")

    def on_block(progress):
        os.write(log, b"done %d\n" % progress.done_blocks)
        while hold and progress.done_blocks == HELD_AT and Path(hold).exists():
            time.sleep(0.01)
        while leash and progress.done_blocks >= _length(leash):
            time.sleep(0.001)

    forward = model.bridge.original_model.base_model.register_forward_pre_hook(on_forward)
    try:
        record(model, plan_of(model, size), path, on_block=on_block)
    except GeometryError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    finally:
        forward.remove()
    return 0


def _length(leash):
    """How many blocks a writer may do: the bytes of a file; all once it is gone."""
    try:
        return Path(leash).stat().st_size
    except FileNotFoundError:
        return math.inf


def _naive(model, path, log, source):
    """What everyone writes first: datasets that grow by a block at a time, in an open file."""
    import h5py

    from cache import ActivationStore
    from tests.recordings import plan_of

    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with ActivationStore.open(source) as store, h5py.File(path, "w") as file:
        prompt = store.rows["prompt"]
        for hook in store.hooks:
            width = store[hook].shape[1]
            file.create_dataset(hook.name, (0, width), "f4", maxshape=(None, width))
        for number, block in enumerate(plan_of(model, "kills").blocks):
            for hook in store.hooks:
                rows = store.load(hook, prompt.isin(block)).numpy()
                file[hook.name].resize(len(file[hook.name]) + len(rows), axis=0)
                file[hook.name][-len(rows) :] = rows
            os.write(log, b"done %d\n" % (number + 1))
    return 0


TASKS = {"code": _code, "command": _command, "held": _held, "record": _record, "naive": _naive}

if __name__ == "__main__":
    serve(sys.argv[1])
