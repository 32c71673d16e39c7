"""Where an SAE's files are: a folder, or by sae-lens's names of them the Hugging Face cache, or the Hub."""

import difflib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.errors import InputError, NotAvailableError

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
PICKLED = (".pt", ".pth", ".bin", ".pkl", ".npz")
"""Endings of files that are not read: loading pickled weights may run what they say."""

_OF_PICKLED = ("connor_rob_hook_z", "dictionary_learning_1", "deepseek_r1", "goodfire", "qwen_scope")
"""sae-lens's loaders of releases of pickled weights."""


@dataclass(frozen=True)
class SAESource:
    """An SAE's files.

    Attributes:
        name: what messages call it.
        folder: where they are; None of a release in another format, which sae-lens is to convert.
        scale: what activations were multiplied by before it read them, where sae-lens's table of releases knows.
        more: fields of the configuration that the table knows.
    """

    name: str
    folder: Path | None
    scale: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entry:
    """A release in sae-lens's table: its repository, loader, and each SAE's folder and scale."""

    repo: str
    loader: str
    folders: dict[str, str]
    scales: dict[str, float]
    more: dict[str, Any]


def find_sae(source: str | Path, sae_id: str | None = None) -> SAESource:
    """The files of an SAE, downloaded if need be. Nothing heavy is imported, so that what is not there is told at once.

    Args:
        source: a folder; sae-lens's name of a release (`gpt2-small-res-jb`); or a repository on the Hub (`owner/name`).
        sae_id: of a release, which of its SAEs (`blocks.6.hook_resid_pre`); of a repository, which folder.

    Raises:
        InputError: there is no such release or SAE; the message names near ones. Or it has pickled weights.
        NotAvailableError: it is neither here nor within reach.
    """
    path = Path(source).expanduser()
    check_ending(path)
    if path.is_dir() and sae_id is not None:
        raise InputError(f"{path} is a folder with one SAE; an id such as {sae_id!r} names one of a release")
    if path.is_dir() or not isinstance(source, str) or source.startswith((".", "/", "~")):
        return SAESource(str(path), path)
    if "/" in source and (not sae_id or source.count("/") > 1):
        raise NotAvailableError(
            f"no folder {source!r} is here; of a repository on the Hub (owner/name) give an SAE's id"
        )
    entry = _Entry(source, "sae_lens", {}, {}, {}) if "/" in source else _entry(source)
    if not sae_id or (entry.folders and sae_id not in entry.folders):
        raise InputError(f"{source} has no SAE {sae_id!r}; {_near(sae_id or '', entry.folders)}")
    return _of_release(f"{source} {sae_id}", source, sae_id, entry)


def check_ending(path: Path) -> None:
    """Refuse a file of pickled weights.

    Raises:
        InputError: its name ends as such files' do.
    """
    if path.suffix.lower() in PICKLED:
        raise InputError(f"{path} is not read: pickled weights may run code; give a folder with {CONFIG} and {WEIGHTS}")


def _of_release(name: str, release: str, sae_id: str, entry: _Entry) -> SAESource:
    if entry.loader in _OF_PICKLED:
        raise InputError(f"{release} is kept as pickled weights, which are not loaded")
    if entry.loader != "sae_lens":
        if not _reachable():
            raise NotAvailableError(
                f"{release} ({entry.repo}) is in a format that sae-lens converts with the Hub in reach, which it is "
                "not; where it is, SAE.from_pretrained(...).save_model(folder) makes a folder that is read anywhere"
            )
        return SAESource(name, None)
    folder = entry.folders.get(sae_id, sae_id)
    paths = [_file(name, entry.repo, f"{folder}/{file}") for file in (CONFIG, WEIGHTS)]
    return SAESource(name, paths[0].parent, entry.scales.get(sae_id), entry.more)


def _reachable() -> bool:
    from cache.loading.hub import hub_reachable

    return hub_reachable()


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
    if not _reachable():
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
