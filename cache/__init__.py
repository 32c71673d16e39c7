"""What the model said: prompts, models, and activations recorded to HDF5."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.datasets import load_dataset as load_dataset
    from cache.hooks import Hook as Hook
    from cache.loading import load_model as load_model
    from cache.models import LoadedModel as LoadedModel
    from cache.plan import plan_recording as plan_recording
    from cache.prompts import Prompts as Prompts
    from cache.recording import record as record
    from cache.sequences import SequenceDesign as SequenceDesign
    from cache.store import ActivationStore as ActivationStore
    from cache.store import head_outputs as head_outputs
    from cache.store import open_stores as open_stores
    from cache.tasks import task_table as task_table
    from cache.verify import verify_store as verify_store

__version__ = "0.1.0"

_HOMES = {
    "ActivationStore": "cache.store",
    "Hook": "cache.hooks",
    "LoadedModel": "cache.models",
    "Prompts": "cache.prompts",
    "SequenceDesign": "cache.sequences",
    "head_outputs": "cache.store",
    "load_dataset": "cache.datasets",
    "load_model": "cache.loading",
    "open_stores": "cache.store",
    "plan_recording": "cache.plan",
    "record": "cache.recording",
    "task_table": "cache.tasks",
    "verify_store": "cache.verify",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cache' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
