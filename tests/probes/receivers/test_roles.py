"""Who takes part in edits: families, the first controls as donors, and all usable controls for nulls."""

import pytest

from cache import SequenceDesign, load_dataset, plan_recording
from cache.families.family import FAMILIES
from probes.receivers.roles import N_CONTROLS, Roles, cast_families
from tests.recordings import recorded


@pytest.fixture(scope="module")
def cast(gpt2, tmp_path_factory):
    """Seven controls, of which control:5 has one context and control:6 one index."""
    design = SequenceDesign((FAMILIES["digits"],), ("list", "quote"), lengths=(2,), starts=(1, 2, 3), templates=2)
    prompts = load_dataset("digits,months,control:0-6", design)
    few = {"control:5": lambda p: p.frame == "list", "control:6": lambda p: p.values[0] == 1}
    kept = [i for i, p in enumerate(prompts) if few.get(p.family, bool)(p)]
    plan = plan_recording(gpt2, prompts.subset(kept), sites="resid_post", positions="last", layers="1")
    with recorded(gpt2, plan, tmp_path_factory.mktemp("cast") / "cast.h5") as store:
        yield cast_families(store, gpt2, Roles(n_contexts=2), 0, by_index=True)


def test_nulls_are_drawn_from_all_controls_with_codes_in_several_contexts(cast):
    assert tuple(cast.receivers) == ("digits", "months")
    assert cast.donors == ("digits", "months", *(f"control:{i}" for i in range(N_CONTROLS)))
    assert cast.controls == tuple(f"control:{i}" for i in range(5))
    assert set(cast.plans) == {"digits", "months", *cast.controls}


def test_prompts_of_the_first_context_have_batches_of_their_own(cast):
    batches = cast.receivers["digits"]
    contexts = [set(batch.contexts) for batch in batches]
    assert contexts[0] == {"list|0"}
    assert all(one == {"list|0"} or "list|0" not in one for one in contexts)
    assert sum(len(batch.members) for batch in batches) == 6
