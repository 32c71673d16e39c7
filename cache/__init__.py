"""What the model said: prompts, models, and activations recorded to HDF5."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.loading.load import load_model as load_model
    from cache.models.hooks import Hook as Hook
    from cache.models.model import LoadedModel as LoadedModel
    from cache.prompts.datasets import load_dataset as load_dataset
    from cache.prompts.prompt import Prompts as Prompts
    from cache.prompts.sequences import SequenceDesign as SequenceDesign
    from cache.sealed.verify import verify_store as verify_store
    from cache.store.plan import plan_recording as plan_recording
    from cache.store.recording import record as record
    from cache.store.store import ActivationStore as ActivationStore
    from cache.store.store import head_outputs as head_outputs
    from cache.store.store import open_stores as open_stores
    from cache.tasks import task_table as task_table

__version__ = "0.1.0"

_HOMES = {
    "ActivationStore": "cache.store.store",
    "Hook": "cache.models.hooks",
    "LoadedModel": "cache.models.model",
    "Prompts": "cache.prompts.prompt",
    "SequenceDesign": "cache.prompts.sequences",
    "head_outputs": "cache.store.store",
    "load_dataset": "cache.prompts.datasets",
    "load_model": "cache.loading.load",
    "open_stores": "cache.store.store",
    "plan_recording": "cache.store.plan",
    "record": "cache.store.recording",
    "task_table": "cache.tasks",
    "verify_store": "cache.sealed.verify",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cache' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
