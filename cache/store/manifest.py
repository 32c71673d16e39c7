"""A recording's manifest: what it depends on, named field by field, so that a difference can be told."""

import datetime
import hashlib
import json
import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cache.models.hooks import layers_by_kind
from cache.repeatable import versions_of
from cache.sealed.footer import SEALED_VERSION

if TYPE_CHECKING:
    from cache.models.model import LoadedModel
    from cache.prompts.prompt import Prompts
    from cache.store.plan import RecordingPlan

_MODEL_TEXTS = ("model weights", "model revision", "model processing", "compute dtype", "attention", "tokenizer")
_PLAN_TEXTS = ("prompt texts", "prompt order", "prompt labels", "prompt tokens", "positions", "storage dtype")
HARD_TYPES = MappingProxyType(
    {"format version": int, "bos": bool, "template seed": int, "hooks": dict, "block plan": dict}
    | dict.fromkeys((*_MODEL_TEXTS, *_PLAN_TEXTS), str)
)


@dataclass(frozen=True)
class Format:
    """A kind of sealed file with rows of prompts.

    Attributes:
        name: its root attribute `format`.
        called: what messages call one.
        made_by: the command that makes them.
        hard: the types of its manifest's hard fields.
        further: datasets of whole numbers that it has beside rows and prompts.
    """

    name: str
    called: str
    made_by: str
    hard: Mapping[str, type]
    further: tuple[str, ...] = ()


STORE = Format("activation-store", "an activation store", "geometry cache", HARD_TYPES)
FEATURES = Format(
    "sae-features",
    "a file of SAE features",
    "geometry sae extract",
    MappingProxyType(
        dict.fromkeys(("format version", "head", "n features", "rows a block"), int)
        | dict.fromkeys(("store", "rows", "hook", "sae", "features"), str)
    ),
    further=("rows/row", "features/of_sae"),
)
KINDS = (STORE, FEATURES)
_LIBRARIES = ("representation-geometry", "h5py", "numpy", "torch", "transformer-lens", "transformers")


def hard_fields(model: "LoadedModel", plan: "RecordingPlan") -> dict[str, Any]:
    """Everything that stored values or their meaning depend on; another value refuses to continue a store."""
    prompts = plan.tokenized.prompts
    return {
        "format version": SEALED_VERSION,
        "model weights": model.weights,
        "model revision": model.revision,
        "model processing": model.processing,
        "compute dtype": model.dtype,
        "attention": model.attention,
        "tokenizer": model.tokenizer_rules,
        "bos": plan.bos,
        **prompt_fields(prompts),
        "prompt tokens": digest([ids.tolist() for ids in plan.tokenized.ids]),
        "hooks": layers_by_kind(plan.hooks),
        "positions": plan.positions,
        "storage dtype": plan.dtype,
        "block plan": {"batch tokens": plan.batch_tokens, "blocks": digest(plan.blocks)},
    }


def prompt_fields(prompts: "Prompts") -> dict[str, Any]:
    """What the fingerprint says of prompts, whatever tokens they have."""
    labels = [
        {name: value for name, value in asdict(prompt).items() if name != "text" and (value or name != "labels")}
        for prompt in prompts
    ]
    return {
        "prompt texts": digest(sorted(prompt.text for prompt in prompts)),
        "prompt order": digest([prompt.text for prompt in prompts]),
        "prompt labels": digest(labels),
        "template seed": prompts.seed,
    }


def soft_fields(model: "LoadedModel | None") -> dict[str, Any]:
    """What is worth knowing later but never refuses to continue a store: names, machine, library versions."""
    return {
        "model": "" if model is None else model.name,
        "device": "" if model is None else model.device,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "libraries": versions_of(_LIBRARIES),
    }


def attributes_of(kind: Format, hard: Mapping[str, Any], soft: Mapping[str, Any], command: str) -> dict[str, str]:
    """The root attributes of a file that is made now.

    Args:
        kind: what it is.
        hard: what the fingerprint covers.
        soft: what it does not.
        command: what makes it.
    """
    return {
        "format": kind.name,
        "fingerprint": fingerprint_of(hard),
        "manifest": canonical({"hard": hard, "soft": soft}),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def canonical(fields: Mapping[str, Any]) -> str:
    """The one JSON text of these fields: sorted keys, ASCII, no spaces."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def fingerprint_of(hard: Mapping[str, Any]) -> str:
    """SHA-256 of the hard fields."""
    return hashlib.sha256(canonical(hard).encode()).hexdigest()


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Names of the fields that differ, in the order of `asked`, each with both values where they are short."""
    return [
        name + _both(stored.get(name), asked.get(name))
        for name in dict.fromkeys([*asked, *stored])
        if canonical({"": stored.get(name)}) != canonical({"": asked.get(name)})
    ]


def _both(stored: Any, asked: Any) -> str:
    texts = ["none" if value == "" else str(value) for value in (stored, asked)]
    return f" ({texts[0]}, now {texts[1]})" if all(len(text) <= 20 for text in texts) else ""


def digest(content: Any) -> str:
    """SHA-256 of what JSON makes of it."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
