from .exports import to_anndata as to_anndata
from .exports import to_pandas as to_pandas
from .exports import to_xarray as to_xarray
from .loading.load import load_model as load_model
from .models.hooks import Hook as Hook
from .models.model import LoadedModel as LoadedModel
from .prompts.datasets import load_dataset as load_dataset
from .prompts.prompt import Prompts as Prompts
from .prompts.sequences import SequenceDesign as SequenceDesign
from .sealed.verify import verify_store as verify_store
from .store.plan import plan_recording as plan_recording
from .store.recording import record as record
from .store.store import ActivationStore as ActivationStore
from .store.store import head_outputs as head_outputs
from .store.store import open_stores as open_stores
from .store.view import View as View
from .tasks import task_table as task_table

__version__: str
