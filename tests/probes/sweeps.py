"""What the tests of sweeps share: a small store, and its sweep."""

from cache import load_dataset, plan_recording
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from tests.recordings import recorded


def small_store(model, folder, *, names="digits,numwords,months,control:0-1", kinds=("increasing",)):
    """Four families' prompts in two frames, four contexts, answers 3 to 8, query and member rows."""
    design = SequenceDesign(
        (FAMILIES["digits"],), ("quote", "list"), kinds, (2,), starts=(1, 2, 3, 4, 5, 6), templates=3
    )
    plan = plan_recording(model, load_dataset(names, design), sites="resid", positions="members")
    return recorded(model, plan, folder / "sweep.h5")
