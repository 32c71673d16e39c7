"""SAEs of the Hub by sae-lens's names of them: looked up in its table, and in the local Hugging Face cache first."""

import difflib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import InputError, NotAvailableError
from cache.loading.sources import hub_reachable
from probes.sae.files import CONFIG, WEIGHTS, read_folder
from probes.sae.weights import SavedSAE

_PICKLED = ("connor_rob_hook_z", "dictionary_learning_1", "deepseek_r1", "goodfire", "qwen_scope")
"""sae-lens's loaders of releases of pickled weights."""


@dataclass(frozen=True)
class _Entry:
    """A release in sae-lens's table: its repository, loader, and each SAE's folder and scale."""

    repo: str
    loader: str
    folders: dict[str, str]
    scales: dict[str, float]
    more: dict[str, Any]


def read_release(release: str, sae_id: str | None) -> "SavedSAE | Any":
    """An SAE by its release and id, from the Hugging Face cache or the Hub.

    Args:
        release: sae-lens's name of a release (`gpt2-small-res-jb`), or a repository on the Hub (`owner/name`).
        sae_id: which of its SAEs (`blocks.6.hook_resid_pre`), or of a repository's folders.

    Returns:
        The SAE as its files hold it; of a release in another format the SAE that sae-lens makes of it.

    Raises:
        InputError: there is no such release or SAE; the message names near ones. Or it has pickled weights.
        NotAvailableError: it is neither in the cache nor within reach.
    """
    entry = _Entry(release, "sae_lens", {}, {}, {}) if "/" in release else _entry(release)
    if not sae_id or (entry.folders and sae_id not in entry.folders):
        raise InputError(f"{release} has no SAE {sae_id!r}; {_near(sae_id or '', entry.folders)}")
    if entry.loader in _PICKLED:
        raise InputError(f"{release} is kept as pickled weights, which are not loaded")
    name = f"{release} {sae_id}"
    if entry.loader != "sae_lens":
        return _converted(release, sae_id, entry.repo)
    folder = entry.folders.get(sae_id, sae_id)
    paths = [_file(name, entry.repo, f"{folder}/{file}") for file in (CONFIG, WEIGHTS)]
    return read_folder(paths[0].parent, name, entry.scales.get(sae_id), entry.more)


def _entry(release: str) -> _Entry:
    """A release's part of sae-lens's table, read without importing the package, which takes many seconds."""
    import yaml

    package = importlib.util.find_spec("sae_lens")
    if package is None or package.origin is None:
        raise NotAvailableError(
            f"{release!r} is no folder here, and names of releases are sae-lens's: pip install "
            "'representation-geometry[sae]'"
        )
    table = Path(package.origin).with_name("pretrained_saes.yaml").read_text(encoding="utf-8")
    part = re.search(rf"^{re.escape(release)}:\n(?:[ \t#-].*\n|\n)*", table, flags=re.MULTILINE)
    if part is None:
        names = re.findall(r"^([^\s#:]+):", table, flags=re.MULTILINE)
        raise InputError(f"no folder and no release {release!r}; {_near(release, names)}")
    told = yaml.safe_load(part[0])[release]
    saes = told["saes"]
    return _Entry(
        repo=str(told["repo_id"]),
        loader=str(told.get("conversion_func") or "sae_lens"),
        folders={str(one["id"]): str(one["path"]) for one in saes},
        scales={str(one["id"]): one["norm_scaling_factor"] for one in saes if "norm_scaling_factor" in one},
        more=dict(told.get("config_overrides") or {}),
    )


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
    return f"near it are {', '.join(near)}" if near else "name a folder of it"


def _file(name: str, repo: str, file: str) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, file, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        pass
    if not hub_reachable():
        raise NotAvailableError(
            f"{name} ({repo}) is not in the local Hugging Face cache ({constants.HF_HUB_CACHE}) and "
            f"{constants.ENDPOINT} cannot be reached; give a folder with {CONFIG} and {WEIGHTS}"
        )
    try:
        return Path(hf_hub_download(repo, file))
    except EntryNotFoundError as error:
        raise NotAvailableError(f"{repo} has no {file}") from error
    except (HfHubHTTPError, OSError) as error:
        said = str(error).strip()
        raise NotAvailableError(f"{name} ({repo}) could not be downloaded: {said.splitlines()[0]}") from error


def _converted(release: str, sae_id: str, repo: str) -> Any:
    """The SAE that sae-lens makes of files in another format; it asks the Hub which they are."""
    if not hub_reachable():
        raise NotAvailableError(
            f"{release} ({repo}) is in a format that sae-lens converts with the Hub in reach, which it is not; "
            "where it is, SAE.from_pretrained(...).save_model(folder) makes a folder that is read anywhere"
        )
    from sae_lens import SAE

    try:
        return SAE.from_pretrained(release, sae_id, device="cpu")
    except OSError as error:
        raise NotAvailableError(f"{release} {sae_id} could not be downloaded: {error}") from error
