"""The rooms and arrows of docs/architecture.md, and where heavy libraries may be imported, read from the source."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cache
import geometry
import probes

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("cache", "geometry", "probes") for path in (ROOT / package).rglob("*.py"))
MAY_IMPORT = {"cache": {"cache"}, "geometry": {"cache", "geometry"}, "probes": {"cache", "geometry", "probes"}}
PACKAGES = {"cache": cache, "geometry": geometry, "probes": probes}
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MOST_MODULES = 9
OF_THE_BRIDGE = {"bridge", "original_model", "hook_dict"}
RIVALS = {f"scripts/bench/cache_{name}.py" for name in ("models", "recording", "saelens")}  # TransformerLens's own ways
HOMES = {
    "transformer_lens": ["cache/models/wrapping.py"],
    "h5py": [
        "cache/sealed/opening.py",
        "cache/sealed/writer.py",
        "cache/sealed/layout.py",
        "cache/sealed/log.py",
        "cache/store/tables.py",
    ],
    "matplotlib": [
        "geometry/figures/",
        "geometry/pictures.py",
        "geometry/report.py",
        "probes/cosines/figures.py",
        "probes/linear/figures.py",
        "probes/pictures.py",
        "probes/sae_curve/figures.py",
        "probes/steering/figures.py",
        "probes/transfer/figures.py",
        "probes/transfer/matrices.py",
    ],
    "umap": ["geometry/bases/embedding.py"],
    "sae_lens": ["probes/sae"],
    "typer": ["geometry/cli/"],
    "rich": ["geometry/cli/", "cache/shown/progress.py"],
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def imports(path: Path, *, at_import: bool = False) -> frozenset[str]:
    """Modules that a file imports: anywhere, or only those its own import runs (type checking left out)."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree)
    if at_import:
        nodes = (
            n for statement in tree.body if not isinstance(statement, ast.If) for n in _outside_functions(statement)
        )
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}  # it may be a submodule
    return frozenset(found)


def module_of(path: Path) -> str:
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(path: Path) -> str:
    """The folder that a module lies in; the module itself where that is one of the three packages."""
    folder = name_of(path.parent)
    return folder if folder not in PACKAGES else name_of(path).removesuffix(".py")


MODULES = {module_of(path): path for path in SOURCES}
ROOMS: dict[str, list[Path]] = {}
for source in SOURCES:
    if source.name not in {"__init__.py", "__main__.py"}:
        ROOMS.setdefault(room_of(source), []).append(source)


def drawn() -> dict[str, set[str]]:
    """The page's table: each room and the rooms that it stands on, after the rooms that all may stand on (`ground`)."""
    table: dict[str, set[str]] = {}
    block = re.search(r"```rooms\n(.*?)```", PAGE, flags=re.DOTALL)[1]
    for room, *words in (line.split() for line in block.splitlines() if line):
        folder, table[room] = room.rpartition("/")[0], set()
        for word in words:
            if word.endswith(":"):
                folder = word[:-1]
            else:
                table[room].add(f"{folder}/{word}" if folder else word)
    return table


DRAWN = drawn()
GROUND = DRAWN.pop("ground")


def stands_on(room: str) -> set[str]:
    """The rooms that a room imports, a package's public names counted where they are defined."""
    found = set()
    for path in ROOMS.get(room, []):
        for name in imports(path):
            package, _, last = name.rpartition(".")
            if package in PACKAGES and last in PACKAGES[package].__all__:
                name = getattr(PACKAGES[package], last).__module__
            if name in MODULES and MODULES[name].name != "__init__.py":
                found.add(room_of(MODULES[name]))
    return found - {room}


@pytest.mark.parametrize("room", sorted({*ROOMS, *DRAWN} - GROUND))
def test_a_room_stands_on_the_rooms_that_the_page_draws(room):
    assert room in ROOMS, "the page draws a room that is not there"
    assert room in DRAWN, "docs/architecture.md does not draw it"
    assert stands_on(room) - GROUND == DRAWN[room]


def test_the_ground_stands_on_nothing_else():
    assert set(ROOMS) >= GROUND
    assert set().union(*map(stands_on, GROUND)) <= GROUND


def test_rooms_stand_on_rooms_above_them_so_that_no_arrow_comes_back():
    order = list(DRAWN)
    assert [(room, below) for room in order for below in DRAWN[room] if below not in order[: order.index(room)]] == []


def test_the_page_says_what_each_room_holds():
    said = re.findall(r"^\| `([\w/]+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(said) == sorted(DRAWN)


def test_a_folder_holds_at_most_nine_modules():
    folders = {path.parent for path in SOURCES}
    held = {name_of(one): sum(path.name != "__init__.py" for path in one.glob("*.py")) for one in folders}
    assert {folder: n for folder, n in held.items() if n > MOST_MODULES} == {}


def test_a_room_runs_nothing_when_it_is_imported():
    faces = {"cache/__init__.py", "geometry/__init__.py", "geometry/cli/__init__.py", "probes/__init__.py"}
    for path in SOURCES:
        if path.name == "__init__.py" and name_of(path) not in faces:
            (docstring,) = ast.parse(path.read_text()).body
            assert isinstance(docstring, ast.Expr), path


def _outside_functions(statement):
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    yield statement
    for child in ast.iter_child_nodes(statement):
        yield from _outside_functions(child)


def test_imports_point_one_way():
    for path in SOURCES:
        package = name_of(path).split("/")[0]
        ours = {module.split(".")[0] for module in imports(path)} & set(MAY_IMPORT)
        allowed = set(MAY_IMPORT) if name_of(path).startswith("geometry/cli/") else MAY_IMPORT[package]
        assert ours <= allowed, name_of(path)


def test_nothing_imports_the_command_line():
    users = {name_of(path) for path in SOURCES if any(module.startswith("geometry.cli") for module in imports(path))}
    assert {user for user in users if not user.startswith("geometry/cli/")} == {"geometry/__main__.py"}


@pytest.mark.parametrize("library", HOMES)
def test_heavy_libraries_stay_in_their_place(library):
    users = [name_of(p) for p in SOURCES if any(m.split(".")[0] == library for m in imports(p))]
    strays = [user for user in users if not any(user.startswith(home) for home in HOMES[library])]
    assert strays == []


def test_only_a_loaded_model_reads_its_bridge():
    """Another version of TransformerLens is a matter of one room."""
    paths = [*SOURCES, *(ROOT / "scripts").rglob("*.py")]
    named = {p: {n.attr for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.Attribute)} for p in paths}
    readers = {name_of(path) for path, attributes in named.items() if attributes & OF_THE_BRIDGE}
    assert {reader for reader in readers if not reader.startswith("cache/models/")} == RIVALS


def test_only_sealed_files_open_hdf5():
    openers = [name_of(p) for p in SOURCES if "h5py.File(" in p.read_text()]
    assert openers == ["cache/sealed/layout.py", "cache/sealed/opening.py"]


def test_modules_inside_a_package_form_no_cycle():
    """Follow what each module imports when it is itself imported; none may come back to where it started."""
    for path in SOURCES:
        start = module_of(path)
        todo, seen = list(imports(path, at_import=True)), set()
        while todo:
            module = todo.pop()
            assert module != start
            if module in MODULES and module not in seen:
                seen.add(module)
                todo += imports(MODULES[module], at_import=True)


def test_no_grab_bag_and_no_pickle():
    for path in SOURCES:
        text = path.read_text()
        assert not {path.stem, path.parent.name} & {"utils", "base", "types", "config", "helpers"}, name_of(path)
        for forbidden in ("pickle", "weights_only=False", "trust_remote_code=True", "torch.load("):
            assert forbidden not in text.replace("pickled weights", "").replace("allow_pickle=False", ""), name_of(path)


def loaded_modules(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import cache, geometry, probes",
        "import geometry.cli",
        "from geometry.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from geometry.cli import main\ntry: main(['cache', '--help'])\nexcept SystemExit: pass",
        "from geometry.cli import main\ntry: main(['pca', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_help_and_bare_imports_load_nothing_heavy(code):
    loaded = loaded_modules(code)
    assert "geometry" in loaded
    heavy = {"torch", "pandas", "numpy", "transformer_lens", "transformers", "matplotlib", "h5py"}
    assert loaded & heavy == set()


def test_every_public_name_exists_and_is_documented():
    for package in (cache, geometry, probes):
        for name in package.__all__:
            assert getattr(package, name).__doc__, name
        assert dir(package) == package.__all__
        with pytest.raises(AttributeError, match=f"^No {package.__name__} attribute nothing$"):
            package.nothing  # noqa: B018


def test_no_public_name_is_also_a_submodules_which_would_replace_it_once_imported():
    for package in (cache, geometry, probes):
        modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
        assert modules & set(package.__all__) == set()


def test_type_checkers_see_the_public_names():
    """In a stub only what is imported under its own name is exported."""
    for package in (cache, geometry, probes):
        tree = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
        typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert set(package.__all__) == typed


def test_a_package_exports_few_names():
    assert {
        package.__name__: len(package.__all__) for package in (cache, geometry, probes) if len(package.__all__) > 24
    } == {}


def test_tests_mirror_the_source():
    """Every module with logic has a test file of the same name."""
    missing = [
        name_of(path)
        for path in SOURCES
        if path.name not in {"__init__.py", "__main__.py", "errors.py"}
        and not (ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}").exists()
    ]
    covered_elsewhere = {
        "cache/loading/folder.py": "cache/models/test_model.py",
        "cache/loading/gguf.py": "cache/models/test_model.py",
        "cache/loading/hashes.py": "cache/models/test_model.py",
        "cache/loading/hub.py": "cache/models/test_model.py",
        "cache/loading/sources.py": "cache/models/test_model.py",
        "cache/models/checks.py": "cache/loading/test_load.py",
        "cache/models/site_checks.py": "cache/loading/test_load.py",
        "cache/store/sink.py": "cache/store/test_recording.py",
        "geometry/cli/app.py": "geometry/cli/test_commands.py",
        "geometry/cli/console/apart_tasks.py": "geometry/cli/console/test_apart.py",
        "geometry/cli/console/options.py": "geometry/cli/test_commands.py",
        "geometry/cli/console/viewed.py": "geometry/cli/test_going_on.py",
        "geometry/cli/intervene/cosines.py": "geometry/cli/intervene/test_query.py",
        "geometry/cli/intervene/direction.py": "geometry/cli/test_steering_commands.py",
        "geometry/cli/intervene/matrices.py": "geometry/cli/intervene/test_transfer.py",
        "geometry/cli/intervene/steer.py": "geometry/cli/test_steering_commands.py",
        "geometry/cli/intervene/sweep.py": "geometry/cli/test_steering_commands.py",
        "geometry/cli/measure/compare.py": "geometry/cli/test_analysis_commands.py",
        "geometry/cli/measure/decompose.py": "geometry/cli/test_analysis_commands.py",
        "geometry/cli/record/cache.py": "geometry/cli/test_commands.py",
        "geometry/cli/record/models.py": "geometry/cli/test_commands.py",
        "geometry/cli/record/prompts.py": "geometry/cli/test_commands.py",
        "geometry/cli/record/store.py": "geometry/cli/test_commands.py",
        "probes/pictures.py": "geometry/cli/test_shown.py",
        "probes/sae_features/plan.py": "probes/sae_features/test_extract.py",
        "probes/sae_training/checkpoints.py": "probes/sae_training/test_train.py",
        "probes/sae_training/run.py": "probes/sae_training/test_train.py",
        "probes/transfer/captions.py": "probes/transfer/test_figures.py",
    }
    assert set(missing) <= set(covered_elsewhere)
    assert all((ROOT / "tests" / home).exists() for home in covered_elsewhere.values())
