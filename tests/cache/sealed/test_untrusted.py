"""Files whose footer is right and whose content was made to mislead: content or one sentence, whatever they say.

Who makes a file to harm can also seal it. What comes of one never is a traceback, another file's opening, a write
outside what a recording may write, or more memory than the file explains.
"""

import hashlib
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xxhash

from cache import ActivationStore, Hook, plan_recording, record, verify_store
from cache.errors import CorruptFileError, GeometryError, NotAvailableError
from cache.models.model import LoadedModel
from cache.sealed.footer import Footer, frozen_digest
from cache.sealed.opening import open_checked
from cache.sealed.writer import open_writer
from geometry.cli import main
from geometry.cli.console import apart_tasks
from probes.directions.files import load_direction
from tests.cache import mutants
from tests.cache.resealing import change, end_of_hdf5, resealed, sealed_around
from tests.cache.sealed import test_hostile_files
from tests.cache.sealed.test_hostile_files import POISONS, Opens
from tests.cache.sealed_files import open_files, seal
from tests.recordings import recorded
from tests.variants import some

ROOT = Path(__file__).parents[3]
TEXTS = ["one two", "1,2,3", "a"]
SITES = ("activations/blocks.1.attn.hook_z", "activations/blocks.1.hook_resid_post")
MIB = 1 << 20


@pytest.fixture(scope="module")
def plan(gpt2):
    return plan_recording(gpt2, TEXTS, sites="resid_post,z", layers="1", batch_tokens=8)


@pytest.fixture(scope="module")
def whole(gpt2, plan, tmp_path_factory) -> bytes:
    """A finished recording of two sites, each of 33 numbers a row."""
    path = tmp_path_factory.mktemp("whole") / "a.h5"
    record(gpt2, plan, path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, whole) -> Path:
    (tmp_path / "a.h5").write_bytes(whole)
    return tmp_path / "a.h5"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a canary that nothing may open."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "libH5Zcanary.so").write_bytes(b"\x7fELF" + bytes(100))
    return folder


@pytest.fixture
def geometry(monkeypatch, capsys):
    """The command line in this process: its exit code, and all that it printed."""
    here = lambda task, file, *options, **_: apart_tasks.TASKS[task](file, *options)  # noqa: E731
    monkeypatch.setattr("geometry.cli.record.store.read_apart", here)

    def run(*arguments) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return int(left.value.code), "".join(capsys.readouterr())

    return run


def program(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False
    )


INFO = "import sys; from geometry.cli import main; main(['info', sys.argv[1]])"


def forge(path: Path, how) -> None:
    """Change a store as somebody who knows the format would: checksums, seals and footer agree with it."""

    def agreeing(file):
        how(file)
        fingerprint, block = file.attrs["fingerprint"].decode(), file["log/block"][:]
        sums = file["log/checksum"][:]
        for column, name in enumerate(file["log/sites"].asstr("utf-8")[:]):
            rows = file[name][()] if isinstance(file.get(name), h5py.Dataset) else np.zeros(0)
            for number in range(len(sums) if rows.shape[:1] == block.shape else 0):
                sums[number, column] = xxhash.xxh3_64_intdigest(rows[block == number].tobytes())
        states = np.array([seal(i, row.tobytes(), fingerprint) for i, row in enumerate(sums)], "<u8")
        file["log/checksum"][:], file["log/state"][:] = sums, states
        file["log/complete"][:] = seal(len(states), states.tobytes(), fingerprint)

    change(path, agreeing)


def replaced(name: str, content: object):
    def how(file):
        del file[name]
        file[name] = content

    return how


def outcome(path: Path) -> str:
    """`content` or `refused`; anything but an answer or one sentence with exit code 4 or 5 fails."""
    before = open_files()
    said = mutants.readings(path)
    refusals = [answer for answer in said.values() if isinstance(answer, list)]
    for code, sentence in refusals:
        assert code in (4, 5), sentence
        assert "\n" not in sentence
        assert str(path) in sentence
    assert open_files() == before
    return "refused" if refusals else "content"


def test_forging_alone_gives_a_store_that_is_read_as_content(path):
    forge(path, lambda file: file.attrs.modify("command", file.attrs["command"]))
    assert outcome(path) == "content"
    forge(path, lambda file: file[SITES[0]].write_direct(np.ones_like(file[SITES[0]][:])))
    assert outcome(path) == "content"
    with ActivationStore.open(path) as store:
        assert (store.load(Hook("z", 1)) == 1).all()


# --- nothing is opened, run or swollen


def plant_unknown_filter(path: Path) -> None:
    """Data that HDF5 can read only with the filter 32013, for which it looks in its folders of plug-ins."""

    def fill(file):
        file.create_dataset("bad", data=np.zeros(1 << 12, "f4"), compression="gzip")

    sealed_around(path, fill)
    content = path.read_bytes()
    gzip = struct.pack("<4H", 1, 8, 1, 1) + b"deflate\0"
    assert content.count(gzip) == 1
    path.write_bytes(resealed(content.replace(gzip, struct.pack("<4H", 32013, 8, 0, 1) + b"deflate\0")))


def test_a_filter_that_is_not_there_is_refused_without_looking_for_its_plug_in(path, folder):
    plant_unknown_filter(path)
    opens = Opens(folder)
    done = program(INFO, path, HDF5_PLUGIN_PATH=str(folder))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert "has data that is not contiguous at /bad; stores have none" in done.stderr
    assert len(opens) == 0
    naive = "import h5py, sys; h5py.File(sys.argv[1])['bad'][:]"
    assert program(naive, path, HDF5_PLUGIN_PATH=str(folder)).returncode == 1
    assert len(opens) > 0, "the oracle is blind"
    os.close(opens.handle)


def test_no_folder_of_plug_ins_that_this_process_has_is_looked_into_either(path, folder):
    plant_unknown_filter(path)
    opens = Opens(folder)
    h5py.h5pl.prepend(os.fsencode(folder))
    try:
        for read in (open_checked, verify_store, ActivationStore.open):
            with pytest.raises(CorruptFileError, match="has data that is not contiguous at /bad"):
                read(path)
        assert len(opens) == 0
        with h5py.File(path) as file, pytest.raises(OSError, match=r"filter|read"):
            file["bad"][:]
        assert len(opens) > 0, "the oracle is blind"
    finally:
        h5py.h5pl.remove(0)
        os.close(opens.handle)


def test_a_driver_named_in_the_superblock_opens_no_other_file(path, tmp_path):
    """HDF5's family and multi drivers keep a file in several, whose names they put together themselves."""
    block = {
        b"NCSAfami": struct.pack("<B3xI8sQ", 0, 8, b"NCSAfami", 100),
        b"NCSAmulti": struct.pack("<B3xI8s", 0, 96, b"NCSAmult") + bytes([1, 2, 3, 4, 5, 6, 0, 0]) + bytes(100),
    }
    for name, content in block.items():
        sealed_around(path, lambda file, content=content: file.update(x=np.frombuffer(content, "u1")))
        with h5py.File(path, "r") as file:
            place = file["x"].id.get_offset()
        raw = path.read_bytes()
        path.write_bytes(resealed(raw[:48] + struct.pack("<Q", place) + raw[56:]))
        opens = Opens(tmp_path)
        with pytest.raises(GeometryError):
            verify_store(path)
        os.set_blocking(opens.handle, False)
        try:
            events = os.read(opens.handle, 65536)
        except BlockingIOError:
            events = b""
        os.close(opens.handle)
        names, place = set(), 0
        while place < len(events):
            (length,) = struct.unpack_from("<12xI", events, place)
            names.add(events[place + 16 : place + 16 + length].rstrip(b"\0"))
            place += 16 + length
        assert names <= {path.name.encode()}, name


MEASURED = """
import sys, time
from cache.errors import CorruptFileError
from cache import ActivationStore, verify_store
for path in sys.argv[1:]:
    began = time.process_time()
    for read in (verify_store, ActivationStore.open):
        try:
            read(path)
        except CorruptFileError as error:
            print(error)
    status = open("/proc/self/status").read()  # getrusage would count the parent's peak
    print(time.process_time() - began, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def gzip_bomb(file):
    bomb = file.create_dataset("bad", (1 << 28,), "f4", chunks=(1 << 24,), compression="gzip", compression_opts=9)
    bomb[: 1 << 24] = 0  # one chunk's bytes serve for all: what counts is what the shape claims


def chunked_terabytes(file):
    file.create_dataset("bad", (1 << 40,), "f4", chunks=(1 << 20,))


def contiguous_terabytes(file):
    file.create_dataset("bad", (1 << 40,), "f4")


def many_attributes(place: str, count: int = 2_000):
    def fill(file):
        file["x"] = np.zeros(3)
        kind, space = h5py.h5t.NATIVE_INT8, h5py.h5s.create(h5py.h5s.SCALAR)
        for number in range(count):
            h5py.h5a.create(file[place].id, b"%d" % number, kind, space)

    return fill


def many_objects(file):
    one = file.create_group("one").id
    for number in range(100_000):
        file.id.links.create_hard(b"%d" % number, one, b".")


@pytest.fixture(scope="module")
def bombs(tmp_path_factory) -> dict[str, Path]:
    """Small files that claim much."""
    folder = tmp_path_factory.mktemp("bombs")
    fills = {
        "gzip": gzip_bomb,
        "chunked": chunked_terabytes,
        "contiguous": contiguous_terabytes,
        "objects": many_objects,
        "attributes of the root": many_attributes("/"),
        "attributes of an array": many_attributes("x"),
    }
    paths = {}
    for name, fill in fills.items():
        paths[name] = folder / name
        sealed_around(paths[name], fill)
    return paths


def test_small_files_that_claim_much_are_refused_soon_and_without_memory(bombs):
    assert bombs["gzip"].stat().st_size < 2 * MIB
    done = program(MEASURED, *bombs.values())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for index, (name, path) in enumerate(bombs.items()):
        *told, numbers = lines[3 * index : 3 * index + 3]
        assert all(line.startswith(str(path)) for line in told)
        seconds, mib = map(float, numbers.split())
        assert seconds < 20, name  # of processor time: walking through what is claimed takes far longer
        assert mib < 500, name


SPARSE = 8 << 30


def sparse_log(path: Path) -> None:
    """A file that has 2 ** 31 rows, all of them a hole: it takes no space and passes the footer's check at once."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "r+") as file:
        del file["log/block"]
        file.create_dataset("log/block", (SPARSE // 4,), "<i4", dcpl=early)
        span = (file["log/block"].id.get_offset(), SPARSE)
    with path.open("r+b") as raw:
        end = end_of_hdf5(raw.read(48))
        footer = Footer(end, (span,))
        raw.truncate(end)
        for _ in range(2):
            os.pwrite(raw.fileno(), footer.packed(), end)
            footer = Footer(end, (span,), frozen_digest(raw.fileno(), footer))


def test_billions_of_rows_that_are_a_hole_are_told_within_the_childs_memory(path):
    sparse_log(path)
    assert path.stat().st_blocks * 512 < MIB
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = program(INFO, path)
    assert done.returncode == 4, done.stderr
    assert re.fullmatch(r"error: \S*a\.h5 (cannot be read|takes more memory to read).*\n", done.stderr)
    assert max(0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before) / 1024 < 1024


def test_references_within_lists_of_attributes_are_refused(path):
    for kind in (h5py.ref_dtype, h5py.regionref_dtype):

        def fill(file, kind=kind):
            file["x"] = np.arange(4.0)
            value = file["x"].ref if kind is h5py.ref_dtype else file["x"].regionref[:2]
            array = np.empty(3, dtype=kind)
            array[:] = value
            file["x"].attrs.create("bad", array, dtype=kind)

        sealed_around(path, fill)
        with pytest.raises(CorruptFileError, match=r"has an attribute of type object at /x$"):
            open_checked(path)


def test_a_long_attribute_is_read_as_it_is(path):
    forge(path, lambda file: file.attrs.create("command", np.bytes_("x" * 60_000)))
    with ActivationStore.open(path) as store:
        assert store.command == "x" * 60_000
    assert outcome(path) == "content"


def test_an_object_under_two_names_is_harmless(path):
    forge(path, lambda file: file.update({"activations/again": file[SITES[0]]}))
    assert outcome(path) == "content"


NAMES = ["a\nb", "\x1b[31m", "." * 255, "a\r\tb", "\u202e", "a b", "%s", "[red]", "[/]", "é日本", "-", "\x7f"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_steers_the_terminal_or_is_taken_for_markup(path, geometry, name):
    sealed_around(path, lambda file: file.update({name: h5py.SoftLink("/nowhere")}))
    for command in ("info", "verify"):
        code, printed = geometry(command, path)
        assert code == 4
        assert printed.count("\n") == 1
        assert printed[:-1].isprintable()
        assert "holds a link at" in printed


@pytest.mark.parametrize("name", ["..", "../x", "../../etc/passwd", "a/../../b", "...", "blocks.2.hook_resid_post"])
def test_a_name_that_looks_like_a_path_is_a_name(path, tmp_path, name):
    """HDF5 knows no parents: `..` is a group's name like any other."""
    forge(path, lambda file: file.update({f"activations/{name}/deep" if "/" not in name else name: np.zeros(2)}))
    opens = Opens(tmp_path.parent)
    assert outcome(path) == "content"
    assert len(opens) == 0
    os.close(opens.handle)


def test_a_link_named_dot_is_told_in_a_sentence(path):
    """No writer can make such a name; bytes can."""
    sealed_around(path, lambda file: file.update(Q=np.zeros(3)))
    content = path.read_bytes()
    assert content.count(b"\0Q\0") == 1
    path.write_bytes(resealed(content.replace(b"\0Q\0", b"\0.\0")))
    with pytest.raises(CorruptFileError) as refusal:
        open_checked(path)
    assert "\n" not in str(refusal.value)


# --- a manifest, a log and tables that say anything

WRONG = (None, -1, 10**400, "", [["x"]], {"resid_post": ["x"]}, {}, float("nan"), True)


def compact(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def set_manifest(manifest: object, text: str | None = None):
    """A manifest and the fingerprint that fits it, whatever it is."""

    def how(file):
        hard = manifest["hard"] if isinstance(manifest, dict) and "hard" in manifest else {}
        content = compact(manifest) if text is None else text
        file.attrs["manifest"] = np.bytes_(content.encode("latin-1"))
        file.attrs["fingerprint"] = np.bytes_(hashlib.sha256(compact(hard).encode()).hexdigest())

    return how


def manifest_of(content: bytes, tmp_path: Path) -> dict[str, object]:
    (tmp_path / "b.h5").write_bytes(content)
    with h5py.File(tmp_path / "b.h5") as file:
        return json.loads(file.attrs["manifest"])


def test_any_value_of_any_hard_field_is_content_or_a_sentence(path, whole, tmp_path):
    manifest = manifest_of(whole, tmp_path)
    assert len(manifest["hard"]) == 17
    found = Counter()
    for number, field in enumerate(manifest["hard"]):
        for value in WRONG[number % 3 : 6 : 3]:
            path.write_bytes(whole)
            forge(path, set_manifest(manifest | {"hard": manifest["hard"] | {field: value}}))
            found[outcome(path)] += 1
        path.write_bytes(whole)
        forge(path, set_manifest(manifest | {"hard": {n: v for n, v in manifest["hard"].items() if n != field}}))
        assert outcome(path) == "refused", field
    assert found["refused"] > 20
    assert found["content"], "another text, or another number, is a store of another making"


def test_a_manifest_of_any_other_shape_is_refused(path, whole, tmp_path):
    manifest = manifest_of(whole, tmp_path)
    texts = ["[" * 30_000, '{"hard":' * 8_000, "\\", "", "null", "NaN", "1" * 5000, '"\\ud800"', "\xff"]
    wrong = [set_manifest(manifest, text) for text in texts]
    wrong += [set_manifest(manifest | {"hard": value}) for value in WRONG]
    wrong += [set_manifest(manifest | {"soft": value}) for value in WRONG[:5]]
    wrong += [set_manifest({"hard": manifest["hard"]}), set_manifest([manifest]), set_manifest("text")]
    for how in wrong:
        path.write_bytes(whole)
        forge(path, how)
        assert outcome(path) == "refused"


@pytest.mark.parametrize("depth", [300, 900, 100_000])
@pytest.mark.parametrize("column", ["values", "members", "spans"])
def test_lists_nested_to_any_depth_are_refused(path, depth, column):
    forge(path, replaced(f"prompts/{column}", np.array([b"[" * depth + b"]" * depth] * 3)))
    assert outcome(path) == "refused"


LISTS = {
    "values": ['["x"]', "[[1]]", "[null]", "[NaN]", "[1e400]", "[true]", "[1.5]", "[{}]", f"[{10**400}]"],
    "members": ["[1]", "[[]]", "[null]", '[{"a":1}]', '["\\u0000"]', "[-0.0]"],
    "spans": ["[1]", '["ab"]', "[[1]]", "[[1,2,3]]", '[["a","b"]]', "[null]", "[[0,1e400]]", "[[NaN,1]]"],
}


@pytest.mark.parametrize(("column", "text"), [(column, text) for column, texts in LISTS.items() for text in texts])
def test_lists_of_anything_are_content_or_a_sentence(path, column, text):
    def how(file):
        for name, honest in (("values", b"[1]"), ("members", b'["a"]'), ("spans", b"[[0,1]]")):
            replaced(f"prompts/{name}", np.array([text.encode() if name == column else honest] * 3))(file)
        replaced("rows/member", np.zeros(len(file["rows/token"]), "i4"))(file)

    forge(path, how)
    outcome(path)


def arrays(n: int) -> list[object]:
    texts = [np.array([text] * n) for text in (b"text", b"\xff", b"", b"nan", b"[]", b"1")]
    numbers = [np.full(n, value, dtype) for value, dtype in ((1 << 62, "i8"), (0, "u1"), (2**64 - 1, "u8"), (-1, "i4"))]
    floats = [np.full(n, value, dtype) for value, dtype in ((np.nan, "f8"), (0.5, "f4"), (1.0, "f8"), (np.inf, "f2"))]
    shapes = [np.zeros((n, 2), "i4"), np.zeros((n, 0), "i4"), np.zeros((), "i4"), np.array([[b"a"] * 2] * n)]
    return [*texts, *numbers, *floats, *shapes, np.array([[b"[]"]] * n), np.zeros(0, "i4"), np.zeros(n + 1, ">i4")]


TABLES = ["rows/prompt", "rows/token_text", "rows/member", "rows/is_last", "prompts/template", "prompts/values"]


@pytest.mark.parametrize("name", some(TABLES, "rows/token_text", "prompts/values"))
def test_a_column_of_anything_is_content_or_a_sentence(path, whole, name):
    with h5py.File(path) as file:
        n = len(file[name])
    found = Counter()
    for content in arrays(n):
        path.write_bytes(whole)
        forge(path, replaced(name, content))
        found[outcome(path)] += 1
    assert found["refused"] >= 10


@pytest.mark.parametrize("value", [-(2**31), -2, 2**31 - 1])
def test_positions_and_tokens_of_any_number_are_only_numbers(path, value):
    for name in ("position", "token"):
        forge(
            path,
            lambda file, name=name: file[f"rows/{name}"].write_direct(np.full(len(file["rows/token"]), value, "i4")),
        )
        assert outcome(path) == "content"


def test_members_below_none_are_none(path):
    forge(path, lambda file: file["rows/member"].write_direct(np.full(len(file["rows/token"]), -7, "i4")))
    assert outcome(path) == "content"


# --- sites


def with_sites(*names: str, shape: tuple[int, ...] = (33,), dtype: str = "f4"):
    """A log that names these sites; what is not there is made."""

    def how(file):
        rows, blocks = len(file["log/block"]), len(file["log/state"])
        for name in names:
            if name.startswith("activations/") and name not in file:
                file[name] = np.zeros((rows, *shape), dtype)
        replaced("log/sites", np.array([name.encode() for name in names]))(file)
        replaced("log/checksum", np.zeros((blocks, len(names)), "u8"))(file)

    return how


@pytest.mark.parametrize(
    "sites",
    [
        (SITES[0], SITES[0]),
        (*SITES, SITES[1]),
        ("rows/prompt", *SITES),
        (*SITES, "rows/position"),
        (*SITES, "log/block"),
        (*SITES, "/" + SITES[0]),
        ("/" + SITES[0], SITES[1]),
        (*SITES, "activations//blocks.1.attn.hook_z"),
        (*SITES, "./" + SITES[0]),
        (*SITES, "activations/./blocks.1.attn.hook_z"),
        (*SITES, "activations/blocks.01.attn.hook_z"),
        (*SITES, "activations/blocks.\u0661.attn.hook_z"),
        (*SITES, "activations/resid"),
        (*SITES, "activations/*"),
        (*SITES, "activations/blocks.2.hook_z,blocks.3.hook_z"),
        (*SITES, "activations/blocks.10000000000000.attn.hook_z"),
        (*SITES, f"activations/blocks.{10**400}.attn.hook_z"),
        (*SITES, f"activations/blocks.{'1' * 5000}.attn.hook_z"),
        (*SITES, "activations/blocks.2.hook_resid_post"),
        (SITES[0],),
    ],
    ids=lambda sites: "+".join(sites)[:60],
)
def test_sites_other_than_the_manifests_are_refused(path, gpt2, plan, sites):
    forge(path, with_sites(*sites))
    assert outcome(path) == "refused"
    assert_no_record_touches(path, gpt2, plan)


@pytest.mark.parametrize(
    "name", [".", "/", "..", "", "log", "activations", "\x00", "nowhere", "log/state", "log/complete"]
)
def test_a_site_that_is_no_array_of_rows_is_refused(path, gpt2, plan, name):
    forge(path, with_sites(*SITES, name or " "))
    if not name:
        forge(path, replaced("log/sites", np.array([*(site.encode() for site in SITES), b""])))
    assert outcome(path) == "refused"
    assert_no_record_touches(path, gpt2, plan)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (3, 11, 1), (33,), (3, 11), (1, 3, 11), ()])
def test_a_site_of_another_kind_of_row_is_refused_unless_it_is_one_of_its_kind(path, site, shape):
    def how(file):
        rows = len(file["log/block"])
        replaced(site, np.ones((rows, *shape), "f4"))(file)

    forge(path, how)
    fits = shape == ((3, 11) if site.endswith("hook_z") else (33,))
    assert outcome(path) == ("content" if fits else "refused")
    if fits and len(shape) == 2:
        with ActivationStore.open(path) as store:
            assert store.load(Hook("z", 1, head=2)).shape == (len(store.rows), 11)


# --- a recording never writes what is not a site's


def unfinish(path: Path) -> None:
    """No block is recorded: whoever records has all to write."""
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        for name in ("log/state", "log/complete", "log/checksum"):
            start = file[name].id.get_offset()
            content[start : start + file[name].nbytes] = bytes(file[name].nbytes)
    path.write_bytes(resealed(bytes(content)))


def assert_no_record_touches(path: Path, gpt2, plan) -> None:
    content = path.read_bytes()
    before = open_files()
    with pytest.raises(GeometryError) as refusal:
        record(gpt2, plan, path)
    assert refusal.value.exit_code in (4, 5)
    assert path.read_bytes() == content
    assert open_files() == before


def place(path: Path, name: str) -> tuple[int, int]:
    with h5py.File(path) as file:
        return file[name].id.get_offset(), file[name].nbytes


def moved(content: bytes, old: tuple[int, int], new: int) -> bytes:
    """The file with one array said to lie elsewhere."""
    assert content.count(struct.pack("<2Q", *old)) >= 1
    end = content.index(struct.pack("<2Q", *old))
    return content[:end] + struct.pack("<2Q", new, old[1]) + content[end + 16 :]


ELSEWHERE = {
    "another site": lambda path: place(path, SITES[1])[0],
    "part of another site": lambda path: place(path, SITES[1])[0] + 64,
    "the log": lambda path: place(path, "log/checksum")[0],
    "a table": lambda path: place(path, "rows/prompt")[0],
    "the superblock": lambda path: 48,
    "metadata": lambda path: 800,
}


@pytest.mark.parametrize("everything_may_change", [False, True])
@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_site_that_lies_over_something_else_is_never_written(path, gpt2, plan, target, everything_may_change):
    unfinish(path)
    content = path.read_bytes()
    end = end_of_hdf5(content)
    spans = [(48, end - 48)] if everything_may_change else None
    where = ELSEWHERE[target](path)
    path.write_bytes(resealed(moved(content, place(path, SITES[0]), where), spans))
    assert_no_record_touches(path, gpt2, plan)
    assert outcome(path) in ("content", "refused")


@pytest.mark.parametrize("name", ["log/checksum", "log/state", "log/complete"])
@pytest.mark.parametrize("target", [SITES[0], "rows/prompt", "log/block"])
def test_a_log_that_lies_over_something_else_is_never_written(path, gpt2, plan, name, target):
    unfinish(path)
    content = path.read_bytes()
    end = end_of_hdf5(content)
    where = place(path, target)[0]
    path.write_bytes(resealed(moved(content, place(path, name), where), [(48, end - 48)]))
    assert_no_record_touches(path, gpt2, plan)


@pytest.mark.parametrize("spans", ["none", "all", "one too few", "one too many", "one byte more"])
def test_a_writer_needs_the_footers_spans_to_be_what_it_writes(path, whole, gpt2, plan, spans):
    unfinish(path)
    content = path.read_bytes()
    end = end_of_hdf5(content)
    honest = sorted(place(path, name) for name in (*SITES, "log/checksum", "log/state", "log/complete"))
    free = place(path, "rows/prompt")
    forged = {
        "none": [],
        "all": [(48, end - 48)],
        "one too few": honest[1:],
        "one too many": sorted([*honest, free]),
        "one byte more": [*honest[:-1], (honest[-1][0], honest[-1][1] - 1)],
    }[spans]
    path.write_bytes(resealed(content, forged))
    assert_no_record_touches(path, gpt2, plan)
    path.write_bytes(resealed(content, honest))
    record(gpt2, plan, path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "how",
    [
        lambda file: file["log/block"].write_direct(np.zeros(len(file["log/block"]), "i4")),
        lambda file: file["log/block"].write_direct(file["log/block"][:][::-1].copy()),
        lambda file: [
            replaced("log/state", np.zeros(9, "u8"))(file),
            replaced("log/checksum", np.zeros((9, 2), "u8"))(file),
        ],
        lambda file: replaced("log/sites", file["log/sites"][:][::-1])(file),
    ],
    ids=["one block", "blocks reversed", "more blocks", "sites in another order"],
)
def test_a_file_of_the_same_fingerprint_with_another_plan_is_not_gone_on_with(path, gpt2, plan, how):
    forge(path, how)
    unfinish(path)
    assert_no_record_touches(path, gpt2, plan)


def test_a_file_replaced_between_the_writers_two_looks_is_not_written(path, whole, tmp_path, monkeypatch):
    other = tmp_path / "other.h5"
    other.write_bytes(whole)
    from cache.sealed import writer

    real = writer.safe_open

    def swapped(place, known):
        os.replace(other, place)
        return real(place, known)

    monkeypatch.setattr(writer, "safe_open", swapped)
    before = open_files()
    with pytest.raises(CorruptFileError, match="was replaced while it was opened; try again"), open_writer(path):
        pass
    assert open_files() == before


def test_a_closed_store_reads_nothing_even_if_its_handles_number_is_anothers(path, tmp_path):
    """The operating system gives a closed file's number to the next file that is opened."""
    store = ActivationStore.open(path)
    blocks = store.blocks(Hook("z", 1), n_rows=1)
    next(blocks)
    store.close()
    with (tmp_path / "noise").open("wb+") as noise:
        noise.write(b"\xff" * 100_000)
        noise.flush()
        with pytest.raises(GeometryError, match="is closed; open it again"):
            next(blocks)


# --- the same, at random


FORGED = """
import json, os, random, sys, tempfile
from collections import Counter
from pathlib import Path
import torch
from tests.cache import mutants
from tests.cache.resealing import end_of_hdf5, resealed, spans_of
torch.set_num_threads(1)
store, count = Path(sys.argv[1]), int(sys.argv[2])
whole, rng = store.read_bytes(), random.Random(0)
end, spans, truth = end_of_hdf5(whole), spans_of(whole), mutants.readings(store)
data = {i for start, length in spans for i in range(start, start + length)}
frozen = [i for i in range(48, end) if i not in data and any(whole[max(i - 24, 0) : i + 24])]
counts = Counter()
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "a.h5"
    for _ in range(count):
        content = bytearray(whole[:end])
        for _ in range(rng.choice((1, 1, 2, 4))):
            content[rng.choice(frozen)] = rng.choice((0, 1, 2, 8, 127, 255, rng.randrange(256)))
        path.write_bytes(resealed(bytes(content), spans))
        said = mutants.read_apart(path, truth)
        counts["different" if "silently different" in said else said] += 1
print(json.dumps(counts))
"""


@pytest.mark.parametrize("count", [12, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_a_file_changed_at_random_and_sealed_again_never_gives_a_traceback(path, count):
    """HDF5 itself may crash, which `info` and `verify` outlive; what it lets through is content or a sentence."""
    done = program(FORGED, path, count)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    print(counts)  # noqa: T201  # for the one who runs the slow one by hand
    allowed = {"told", "identical", "different", "hang"}
    assert {said for said in counts if said not in allowed and not said.startswith("crash")} == set()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_flipped_bits_of_a_small_store_are_each_reported_refused_or_nobodys(path, whole):
    def content() -> list[object]:
        with ActivationStore.open(path) as store:
            return [
                store.rows.to_csv(),
                store.prompts.to_csv(),
                [store[hook].numpy().tobytes() for hook in store.hooks],
            ]

    truth = content()
    width = 33 * 4
    starts = {site: place(path, site) for site in SITES}
    with h5py.File(path) as file:
        blocks = file["log/block"][:]
    log = [place(path, f"log/{name}") for name in ("checksum", "state", "complete")]
    rng, found = random.Random(8), Counter()
    for _ in range(1000):
        bit = rng.randrange(8 * len(whole))
        byte = bit // 8
        mutant = bytearray(whole)
        mutant[byte] ^= 1 << bit % 8
        path.write_bytes(mutant)
        site = next((site for site, (start, length) in starts.items() if start <= byte < start + length), None)
        try:
            damage = [(d.part, d.block) for d in verify_store(path).damage]
        except GeometryError:
            assert site is None
            found["refused"] += 1
            continue
        if site:
            assert damage == [(site, int(blocks[(byte - starts[site][0]) // width]))]
            found["data"] += 1
        elif any(start <= byte < start + length for start, length in log):
            assert [part for part, _ in damage] == ["log"]
            found["log"] += 1
        else:
            assert damage == []
            assert content() == truth
            found["unchanged"] += 1
    print(dict(found))  # noqa: T201  # for the one who runs it by hand
    assert sum(found.values()) == 1000


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")
def test_no_system_call_opens_anything_outside_for_any_poison(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(test_hostile_files.SECRET)
    with h5py.File(outside / "other.h5", "w") as file:
        file["x"] = np.arange(8.0)

    def password(group, outside):
        group.create_dataset("bad", (100,), "u1", external=[("/etc/passwd", 0, 100)])

    poisons = []
    for plant in (*POISONS, password):

        def fill(file, plant=plant):
            file["fine"] = np.arange(4.0)
            plant(file, outside)

        poisons.append(tmp_path / f"{plant.__name__}.h5")
        sealed_around(poisons[-1], fill)
    trace = tmp_path / "trace"
    code = """
import sys
from geometry.cli import main
for path in sys.argv[1:]:
    for command in ("info", "verify"):
        try:
            main([command, path])
        except SystemExit as left:
            assert left.code == 4, (path, left.code)
"""
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,execve", "-o", str(trace)]
    done = subprocess.run(
        [*command, sys.executable, "-c", code, *map(str, poisons)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace is not permitted here")
    assert done.returncode == 0, done.stderr
    opened = Counter(re.findall(r'(?:open|openat|openat2|execve)\([^"]*"([^"]*)"', trace.read_text()))
    for poison in poisons:
        assert opened.pop(str(poison), 0) >= 4, "each is read by two commands, with and without HDF5"
    assert [name for name in opened if str(tmp_path) in name] == []
    assert not any("plugin" in name and "hdf5" in name.lower() for name in opened)
    # Python itself looks up the user's home in it, if HOME is not set; nothing else may
    assert "/etc/passwd" not in opened


# --- pickles


class Evil:
    """Code that runs when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


@pytest.fixture
def canary(tmp_path):
    canary = tmp_path / "canary"
    yield canary
    assert not canary.exists()


@pytest.fixture
def evil_npy(tmp_path, canary) -> Path:
    np.save(tmp_path / "evil.npy", np.array([Evil(canary)], dtype=object), allow_pickle=True)
    return tmp_path / "evil.npy"


@pytest.fixture
def evil_pt(tmp_path, canary) -> Path:
    torch.save({"vector": Evil(canary)}, tmp_path / "evil.pt")
    return tmp_path / "evil.pt"


def test_the_canary_does_sing_where_a_pickle_is_run(tmp_path):
    singing = tmp_path / "singing"
    np.save(tmp_path / "a.npy", np.array([Evil(singing)], dtype=object), allow_pickle=True)
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert singing.exists()


def test_a_pickle_given_as_a_store_or_as_a_direction_is_never_run(evil_npy, evil_pt, tmp_path, geometry):
    for evil in (evil_npy, evil_pt):
        for name in ("a.h5", "a.pkl", "a.safetensors"):
            shutil.copy(evil, tmp_path / name)
            for read in (ActivationStore.open, verify_store, load_direction):
                with pytest.raises(CorruptFileError) as refusal:
                    read(tmp_path / name)
                assert "\n" not in str(refusal.value)
            for command in ("info", "verify"):
                code, printed = geometry(command, tmp_path / name)
                assert (code, printed.count("\n")) == (4, 1)


def test_a_pickle_given_as_prompts_or_as_a_model_is_never_run(evil_npy, evil_pt, tmp_path, model_folders, geometry):
    for evil in (evil_npy, evil_pt):
        shutil.copy(evil, tmp_path / "a.jsonl")
        code, printed = geometry("prompts", "--dataset", tmp_path / "a.jsonl")
        assert (code, printed.count("\n")) == (2, 1), printed
        code, printed = geometry(
            "cache", "--model", evil, "--dataset", "digits", "--out", tmp_path / "out.h5", "--quiet"
        )
        assert (code, printed.count("\n")) == (NotAvailableError.exit_code, 1), printed
        folder = shutil.copytree(model_folders["gpt2"], tmp_path / f"model of {evil.name}")
        (folder / "model.safetensors").unlink()
        shutil.copy(evil, folder / "pytorch_model.bin")
        code, printed = geometry(
            "cache", "--model", folder, "--dataset", "digits", "--out", tmp_path / "out.h5", "--quiet"
        )
        assert (code, printed.count("\n")) == (NotAvailableError.exit_code, 1), printed
        assert "pickled weights are not loaded" in printed


# --- numbers of half the width


def test_bfloat16_activations_are_stored_as_the_float32_that_equal_them(gpt2, plan, tmp_path, monkeypatch):
    """Every finite bfloat16, the smallest and the largest among them, is a float32 too."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    finite = patterns[(patterns & 0x7F80) != 0x7F80]
    special = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x7F7F, 0xFF7F], dtype=np.uint16)
    rng = np.random.default_rng(0)
    seen: dict[str, list[np.ndarray]] = {hook.name: [] for hook in plan.hooks}

    def run(self, tokens, n_blocks):
        for hook in plan.hooks:
            shape = (*tokens.shape, *self.row_shape(hook))
            bits = rng.choice(finite, size=shape)
            bits.reshape(-1)[:8] = special
            seen[hook.name].append(bits)
            self.points[hook.name](torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16))

    monkeypatch.setattr(LoadedModel, "run", run)
    with recorded(gpt2, plan, tmp_path / "b.h5") as store:
        assert store.complete
        for hook in store.hooks:
            whole_block = seen[hook.name]
            stored = store[hook].numpy().view(np.uint32).reshape(-1)
            lengths = [plan.tokenized.lengths[list(block)] for block in plan.blocks]
            kept = [bits[row, :n] for bits, ns in zip(whole_block, lengths, strict=True) for row, n in enumerate(ns)]
            order = [prompt for block in plan.blocks for prompt in block]
            by_prompt = np.concatenate([kept[order.index(prompt)].reshape(-1) for prompt in range(len(TEXTS))])
            np.testing.assert_array_equal(stored, by_prompt.astype(np.uint32) << 16)
