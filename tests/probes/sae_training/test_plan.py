"""A plan can be carried out, or is refused with what would do."""

import pytest

from cache.errors import InputError
from probes.sae_training.plan import plan_training
from tests.probes.sae_training.stores import HOOK, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store, _ = make_store(tmp_path_factory.mktemp("plan") / "store.h5")
    with store:
        yield store


def test_a_batch_is_text_and_sequences_in_their_shares(store):
    plan = plan_training(store, [HOOK], batch_size=100, sequences=0.3)
    assert {part: size for part, (_, size) in plan.pools(plan.split(store)).items()} == {"text": 70, "sequences": 30}
    plan = plan_training(store, [HOOK], batch_size=100, sequences=0.0)
    assert {part: size for part, (_, size) in plan.pools(plan.split(store)).items()} == {"text": 100}


def test_sequences_alone_fill_the_batch(tmp_path):
    store, _ = make_store(tmp_path / "store.h5", n_documents=0)
    with store:
        plan = plan_training(store, [HOOK], batch_size=100, sequences=0.3)
        assert {part: size for part, (_, size) in plan.pools(plan.split(store)).items()} == {"sequences": 100}


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"architecture": "dense"}, "architecture must be one of batchtopk, topk, jumprelu, matryoshka; got 'dense'"),
        ({"width": 1}, "width must be 2 or more; got 1"),
        ({"k": 0}, "k must be 1 or more; got 0"),
        ({"k": 90, "width": 80}, "k is at most the width, 80; got 90"),
        ({"steps": 0}, "steps must be 1 or more; got 0"),
        ({"batch_size": 1}, "batch_size must be 2 or more; got 1"),
        ({"templates": -1}, "templates must be 0 or more; got -1"),
        ({"sequences": 1.5}, "sequences is a share of a batch, 0 to 1; got 1.5"),
        ({"lr": 0.0}, "lr must be above 0; got 0.0"),
        ({"seeds": ()}, "seeds must be one or more, all different; got none"),
        ({"seeds": (1, 1)}, "seeds must be one or more, all different; got 1, 1"),
        ({"seeds": (-1,)}, "seed must be a whole number"),
        ({"frames": ("verse",)}, "no prompt has the frame 'verse'"),
    ],
)
def test_what_cannot_be_done_is_told(store, choices, message):
    with pytest.raises(InputError, match=message):
        plan_training(store, [HOOK], **choices)


def test_a_site_has_to_be_named_and_there(store):
    with pytest.raises(InputError, match="name a site to train at"):
        plan_training(store, [])
    with pytest.raises(InputError, match="resid_post"):
        plan_training(store, [("resid_post", 9)])
