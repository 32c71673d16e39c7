"""What is kept of a stopped analysis is used by the same analysis alone: each parameter tells runs apart."""

import shutil
from dataclasses import replace

import pytest

from cache import SequenceDesign, load_dataset, load_model, plan_recording
from cache.families.family import FAMILIES
from geometry.results.over import Loop
from probes import Grid, Question, Roles, erasure_matrix, probe_by_layer, sweep, transfer_matrix
from probes.cosines.by_layer import cosines_by_layer
from probes.transfer.query_position import last_or_answer
from tests.probes.sae.saved import halves
from tests.recordings import recorded

LAST = "is_last and kind == 'increasing'"
PAIR = ("digits", "numwords")
VIEWS = {"site": "resid_post", "layers": "1", "where": None}
GRID, ROLES, PROBE = Grid((1.0,), ("last",), ("pca",)), Roles(["digits"], ["digits"], n_contexts=1), Question("number")
ROLES_VARIED = [
    {"roles": replace(ROLES, receivers=["numwords"])},
    {"roles": replace(ROLES, donors=["numwords"])},
    {"roles": replace(ROLES, n_contexts=2)},
    {"roles": replace(ROLES, basis=halves(33))},
    {"seed": 1},
]
EDITED = [{"layers": "0"}, {"site": "resid_pre"}]
CASES = {
    "probe": (
        lambda view, _, loop, question=PROBE, **rest: probe_by_layer(view, question, loop=loop, **rest),
        {"where": LAST, "n_permutations": 1},
        [
            {"site": "resid_pre"},
            {"layers": "0"},
            {"where": f"{LAST} and template < 2"},
            {"n_permutations": 2},
            {"seed": 1},
            *({"question": one} for one in (Question("angle"), replace(PROBE, leave_out="template"))),
            *({"question": one} for one in (replace(PROBE, families=["digits"]), replace(PROBE, strict=True))),
            {"question": replace(PROBE, period=5.0)},
        ],
    ),
    "cosines": (
        lambda view, _, loop, pairs=(PAIR,), **rest: cosines_by_layer(view, pairs, loop=loop, **rest),
        {"where": LAST},
        [{"layers": "0"}, {"where": f"{LAST} and template < 2"}, {"pairs": [PAIR[::-1]]}, {"method": "pca"}],
    ),
    "sweep": (
        lambda view, model, loop, pair=PAIR, **rest: sweep(view, model, *pair, loop=loop, **{"grid": GRID, **rest}),
        {"where": LAST},
        [
            {"layers": "0"},
            {"where": f"{LAST} and frame in ['quote', 'list']"},
            {"pair": PAIR[::-1]},
            {"grid": replace(GRID, alphas=(2.0,))},
            {"grid": replace(GRID, positions=("all",))},
            {"grid": replace(GRID, methods=("lda",))},
            {"grid": replace(GRID, basis=halves(33))},
            {"seed": 1},
        ],
    ),
    "transfer": (
        lambda view, model, loop, **rest: transfer_matrix(view, model, loop=loop, **{"roles": ROLES, **rest}),
        {},
        [*EDITED, *ROLES_VARIED, {"n_null": 0}, {"roles": replace(ROLES, positions=("members",))}],
    ),
    "erasure": (
        lambda view, model, loop, **rest: erasure_matrix(view, model, loop=loop, **{"roles": ROLES, **rest}),
        {"n_null": 19},
        [*EDITED, *ROLES_VARIED, {"n_null": 20}, {"rank": 2}, {"roles": replace(ROLES, positions=("both",))}],
    ),
    "last or answer": (
        lambda view, model, loop, **rest: last_or_answer(
            view, model, loop=loop, **{"families": ["digits"], "n_contexts": 1, **rest}
        ),
        {},
        [*EDITED, {"families": ["numwords"]}, {"kinds": ["step:2"]}, {"n_contexts": 2}, {"seed": 1}],
    ),
}


IN_SUITE = ("sweep", "probe")


@pytest.fixture(scope="module")
def store(gpt2, tmp_path_factory):
    design = SequenceDesign(
        (FAMILIES["digits"],),
        ("quote", "list"),
        ("increasing", "decreasing", "step:2"),
        (2,),
        starts=(1, 2, 3, 4, 5, 6),
        templates=3,
    )
    plan = plan_recording(
        gpt2, load_dataset("digits,numwords", design), sites="resid_pre,resid_post", positions="members"
    )
    with recorded(gpt2, plan, tmp_path_factory.mktemp("parameters") / "a.h5") as store:
        yield store


def kept(case, store, model, folder, **choices):
    """What an analysis says of kept sites, and those that it leaves."""
    said, (analyse, always, _) = [], CASES[case]
    choices = {**always, **choices}
    view = store.view(**{name: choices.pop(name, default) for name, default in VIEWS.items()})
    analyse(view, model, Loop(kept=folder, say=said.append), **choices)
    return said, {path.read_bytes() for path in folder.glob("unfinished-*/analysis.json")}


@pytest.fixture(scope="module")
def begun(store, gpt2, tmp_path_factory):
    """Puts into a folder what each analysis leaves there, run once; and says what it is described by."""
    made = {}

    def of(case, folder):
        if case not in made:
            place = tmp_path_factory.mktemp("begun")
            said, described = kept(case, store, gpt2, place)
            assert said == []
            made[case] = place, described
        place, described = made[case]
        shutil.copytree(place, folder, dirs_exist_ok=True)
        return described

    return of


@pytest.mark.parametrize(
    ("case", "varied"),
    [
        pytest.param(case, varied, marks=[pytest.mark.slow] * (case not in IN_SUITE))
        for case, (_, _, all_varied) in CASES.items()
        for varied in all_varied
    ],
    ids=lambda one: one if isinstance(one, str) else next(iter(one)),
)
def test_runs_that_differ_in_one_parameter_share_no_kept_site(case, varied, begun, store, gpt2, tmp_path):
    one = begun(case, tmp_path)
    said, other = kept(case, store, gpt2, tmp_path, **varied)
    assert len(said) == 1
    assert said[0].startswith(f"what was kept in {tmp_path} is of another ")
    assert one != other


def through(case, basis, **more):
    return {"grid": replace(GRID, basis=basis, **more)} if case == "sweep" else {"roles": replace(ROLES, basis=basis)}


@pytest.mark.parametrize("case", ["sweep", "transfer", "erasure"])
def test_runs_through_two_saes_share_no_kept_site(case, store, gpt2, tmp_path):
    one, same, other = halves(33), halves(33), halves(33, range(1, 33))
    assert kept(case, store, gpt2, tmp_path, **through(case, one))[0] == []
    assert "are not computed again" in kept(case, store, gpt2, tmp_path, **through(case, same))[0][0]
    said, _ = kept(case, store, gpt2, tmp_path, **through(case, other))
    assert said[0].endswith("is of another run, which differs in basis; all is computed anew")
    if case == "sweep":
        said, _ = kept(case, store, gpt2, tmp_path, **through(case, other, n_features=2))
        assert said[0].endswith("which differs in n_features; all is computed anew")


@pytest.mark.parametrize("case", IN_SUITE)
def test_the_same_run_computes_nothing_again(case, begun, store, gpt2, tmp_path):
    one = begun(case, tmp_path)
    said, other = kept(case, store, gpt2, tmp_path)
    assert one == other
    assert said == [f"1 finished before and kept in {tmp_path} are not computed again"] * len(said)
    assert len(said) == (2 if case == "sweep" else 1)


@pytest.mark.parametrize("case", ["sweep", "transfer"])
def test_a_model_that_computes_otherwise_shares_no_kept_site(case, begun, store, model_folders, tmp_path):
    begun(case, tmp_path)
    said, _ = kept(case, store, load_model(str(model_folders["gpt2"]), device="cpu", bos=False), tmp_path)
    assert said[0].endswith("which differs in bos; all is computed anew")


@pytest.mark.parametrize("case", CASES)
def test_sites_kept_while_a_recording_goes_on_are_not_those_of_more_rows(
    case, begun, store, gpt2, tmp_path, monkeypatch
):
    """The store's fingerprint is the same; which rows there are is not."""
    begun(case, tmp_path)
    monkeypatch.setattr(store, "complete", False)
    said, _ = kept(case, store, gpt2, tmp_path)
    assert said[0].startswith(f"what was kept in {tmp_path} is of another run")
    assert len(said) == 1
