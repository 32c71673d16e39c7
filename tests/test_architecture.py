"""The one dependency rule, and where heavy libraries may be imported, read from the source."""

import ast
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
HOMES = {
    "transformer_lens": ["cache/wrapping.py"],
    "h5py": [
        "cache/safe_open.py",
        "cache/sealed.py",
        "cache/sealed_layout.py",
        "cache/sealed_log.py",
        "cache/layout.py",
    ],
    "matplotlib": ["geometry/figures", "geometry/report.py"],
    "umap": ["geometry/embed.py"],
    "sae_lens": ["probes/sae"],
    "typer": ["geometry/cli/"],
    "rich": ["geometry/cli/"],
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, *, at_import: bool = False) -> set[str]:
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
            found.add(node.module)
    return found


def _outside_functions(statement):
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    yield statement
    for child in ast.iter_child_nodes(statement):
        yield from _outside_functions(child)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_one_way(path):
    package = name_of(path).split("/")[0]
    ours = {module.split(".")[0] for module in imports(path)} & set(MAY_IMPORT)
    allowed = set(MAY_IMPORT) if name_of(path).startswith("geometry/cli/") else MAY_IMPORT[package]
    assert ours <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_imports_the_command_line(path):
    inside = name_of(path).startswith("geometry/cli/") or name_of(path) == "geometry/__main__.py"
    assert inside or not any(module.startswith("geometry.cli") for module in imports(path))


@pytest.mark.parametrize("library", HOMES)
def test_heavy_libraries_stay_in_their_place(library):
    users = [name_of(p) for p in SOURCES if any(m.split(".")[0] == library for m in imports(p))]
    strays = [user for user in users if not any(user.startswith(home) for home in HOMES[library])]
    assert strays == []


def test_only_sealed_files_open_hdf5():
    openers = [name_of(p) for p in SOURCES if "h5py.File(" in p.read_text()]
    assert openers == ["cache/safe_open.py", "cache/sealed_layout.py"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_inside_a_package_form_no_cycle(path):
    """Follow what each module imports when it is itself imported; none may come back to where it started."""
    modules = {name_of(p).removesuffix(".py").removesuffix("/__init__").replace("/", "."): p for p in SOURCES}
    start = name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    todo, seen = list(imports(path, at_import=True)), set()
    while todo:
        module = todo.pop()
        assert module != start
        if module in modules and module not in seen:
            seen.add(module)
            todo += imports(modules[module], at_import=True)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_grab_bag_no_pickle_no_broad_except(path):
    text = path.read_text()
    assert path.stem not in {"utils", "base", "types", "config", "helpers"}
    for forbidden in ("pickle", "weights_only=False", "trust_remote_code=True", "torch.load("):
        assert forbidden not in text.replace("pickled weights", "").replace("allow_pickle=False", "")


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
    with pytest.raises(AttributeError, match="module 'cache' has no attribute 'nothing'"):
        cache.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="module 'geometry' has no attribute 'nothing'"):
        geometry.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="module 'probes' has no attribute 'nothing'"):
        probes.nothing  # noqa: B018
    assert set(dir(probes)) >= set(probes.__all__)
    assert set(dir(cache)) >= set(cache.__all__)
    assert set(dir(geometry)) >= set(geometry.__all__)


def test_no_public_name_is_also_a_submodules_which_would_replace_it_once_imported():
    for package in (cache, geometry, probes):
        modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
        assert modules & set(package.__all__) == set()


def test_type_checkers_see_the_public_names():
    for package in (cache, geometry, probes):
        tree = ast.parse(Path(package.__file__).read_text())
        typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert set(package.__all__) <= typed


def test_tests_mirror_the_source():
    """Every module with logic has a test file of the same name."""
    missing = [
        name_of(path)
        for path in SOURCES
        if path.name not in {"__init__.py", "__main__.py", "errors.py"}
        and not (ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}").exists()
    ]
    covered_elsewhere = {
        "cache/gguf.py": "cache/test_models.py",
        "cache/model_checks.py": "cache/test_loading.py",
        "cache/model_files.py": "cache/test_models.py",
        "cache/model_hash.py": "cache/test_models.py",
        "cache/model_sources.py": "cache/test_models.py",
        "cache/sequence_rules.py": "cache/test_sequences.py",
        "cache/sink.py": "cache/test_recording.py",
        "cache/site_checks.py": "cache/test_loading.py",
        "geometry/cli/app.py": "geometry/cli/test_commands.py",
        "geometry/cli/cache_command.py": "geometry/cli/test_commands.py",
        "geometry/cli/models_command.py": "geometry/cli/test_commands.py",
        "geometry/cli/options.py": "geometry/cli/test_commands.py",
        "geometry/cli/compare_command.py": "geometry/cli/test_analysis_commands.py",
        "geometry/cli/direction_command.py": "geometry/cli/test_steering_commands.py",
        "geometry/cli/steer_command.py": "geometry/cli/test_steering_commands.py",
        "geometry/cli/sweep_command.py": "geometry/cli/test_steering_commands.py",
        "geometry/cli/decompose_commands.py": "geometry/cli/test_analysis_commands.py",
        "geometry/cli/recorded_model.py": "geometry/cli/test_analysis_commands.py",
        "geometry/cli/prompts_command.py": "geometry/cli/test_commands.py",
        "geometry/cli/apart_tasks.py": "geometry/cli/test_apart.py",
        "geometry/cli/store_commands.py": "geometry/cli/test_commands.py",
        "geometry/cli/terminal.py": "geometry/cli/test_commands.py",
    }
    assert set(missing) <= set(covered_elsewhere)
    assert all((ROOT / "tests" / home).exists() for home in covered_elsewhere.values())
