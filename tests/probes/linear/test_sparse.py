"""k-sparse probes: the features that tell are chosen without the rows tested, as scikit-learn's pipeline does."""

import numpy as np
import pytest
import torch
from sklearn.feature_selection import SelectKBest, f_classif, f_regression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cache.errors import InputError
from geometry import pca
from probes.directions.features import basis_at
from probes.linear.probe import balanced_accuracy, leave_groups_out
from probes.linear.sparse import sparse_probe, sparse_scores
from probes.linear.tasks import N_CONTROL_TASKS, ProbeTask, Question, relabelled
from tests.recordings import recorded

N_MEMBERS, N_TEMPLATES = 6, 5
MEMBER = np.tile(np.arange(N_MEMBERS), 3 * N_TEMPLATES)
TEMPLATE = np.tile(np.repeat(np.arange(N_TEMPLATES), N_MEMBERS), 3)
FAMILY = np.repeat(np.arange(3), N_MEMBERS * N_TEMPLATES)


def task_of(target, n_permutations=6):
    """Three families, six members, five templates; members left out for numbers, templates for families."""
    own = FAMILY if target == "family" else MEMBER
    groups = TEMPLATE if target == "family" else MEMBER
    blocks = MEMBER * N_TEMPLATES + TEMPLATE if target == "family" else np.zeros_like(MEMBER)
    null = relabelled(own, blocks, n_draws=n_permutations, seed=(0, 0))
    control = relabelled(own, MEMBER if target == "family" else FAMILY, n_draws=N_CONTROL_TASKS, seed=(0, 1))
    question = Question(target, "template" if target == "family" else "member", ("a", "b", "c"))
    folds = leave_groups_out(groups.tolist())
    labels = np.vstack([own[None], null, control])
    chosen = np.ones(len(own), dtype=bool)
    return ProbeTask(question, chosen, labels, np.arange(N_MEMBERS), folds, groups, MEMBER, N_TEMPLATES)


def noise(n_features, seed=0):
    return np.random.default_rng(seed).normal(size=(len(FAMILY), n_features))


def test_the_features_that_tell_are_found_and_no_others_are_needed():
    x = noise(300)
    x[:, 40] += 8 * (FAMILY == 0)
    x[:, 41] += 8 * (FAMILY == 1)
    table = sparse_scores(x, task_of("family"), (1, 2, 5)).set_index("k")
    assert table.loc[1, "value"] == pytest.approx(2 / 3, abs=0.05)
    assert table.loc[2, "value"] > 0.97
    assert set(table.loc[2, "features"].split()) == {"40", "41"}
    assert (table["null_mean"] - 1 / 3).abs().max() < 0.06
    assert (table["chance"] == 1 / 3).all()
    assert table["n_features"].tolist() == [300] * 3


def test_numbers_of_members_that_were_not_seen_are_read():
    x = noise(100, 1)
    x[:, 7] += 5 * MEMBER
    table = sparse_scores(x, task_of("number"), (1, 5)).set_index("k")
    assert table.loc[1, "value"] > 0.9
    assert table.loc[1, "features"] == "7"
    assert table.loc[1, "null_mean"] < 0.05
    assert table.loc[1, "chance"] == 0


@pytest.mark.parametrize("k", [1, 5])
def test_it_is_scikit_learns_pipeline(k):
    x = noise(60, 2)
    x[:, :3] += FAMILY[:, None] * np.array([0.5, 1.0, 1.5])
    task = task_of("family", n_permutations=1)
    said = np.empty(len(FAMILY), dtype=np.int64)
    for fold in task.folds:
        probe = LogisticRegression(C=1.0, class_weight="balanced", max_iter=10_000)
        pipeline = make_pipeline(SelectKBest(f_classif, k=k), StandardScaler(), probe)
        said[fold.test] = pipeline.fit(x[fold.train], FAMILY[fold.train]).predict(x[fold.test])
    assert sparse_scores(x, task, [k])["value"].item() == pytest.approx(balanced_accuracy(FAMILY, said), abs=0.012)


def test_the_choice_does_not_see_the_rows_tested():
    """A feature that tells the members left out alone, by a lookup, gives nothing."""
    x = noise(600, 3)
    table = sparse_scores(x, task_of("number"), (5,))
    best = SelectKBest(f_regression, k=5).fit(x, MEMBER)
    seen = np.corrcoef(x[:, best.get_support()] @ np.sign(best.scores_[best.get_support()]), MEMBER)[0, 1] ** 2
    assert table["value"].item() < 0.05, seen
    assert abs(table["value"].item() - table["null_mean"].item()) < 0.3


def test_features_that_never_vary_or_tell_all_are_no_trouble():
    x = noise(10, 4)
    x[:, 0], x[:, 1] = 0.0, 10.0 * FAMILY
    table = sparse_scores(torch.from_numpy(x).float(), task_of("family", 1), (1,))
    assert table["features"].item() == "1"
    assert table["value"].item() == 1.0
    only_zeros = sparse_scores(np.zeros((len(FAMILY), 3)), task_of("family", 1), (1,))
    assert only_zeros["value"].item() == pytest.approx(1 / 3)


def test_a_store_is_read_through_a_basis(gpt2, prompts, tmp_path):
    with recorded(gpt2, prompts, tmp_path / "store.h5") as store:
        site = ("resid_post", 1)
        basis = basis_at(store, site, pca(store.load(site, "is_last"), k=8).basis)
        view = store.view()
        table = sparse_probe(view, Question("family", "template"), basis, n_permutations=3)
        assert table["n_features"].unique().tolist() == [8]
        own = sparse_probe(store.view(layers=1, site="resid_post"), Question("number"), most=[2], n_permutations=3)
        assert own["n_features"].item() == store.width(store.site(site))
        for arguments, message in (
            ((view, Question("angle"), basis), "a sparse probe reads family or number; got 'angle'"),
            ((view, Question("number")), "a sparse probe reads one site"),
        ):
            with pytest.raises(InputError, match=message):
                sparse_probe(*arguments)
        with pytest.raises(InputError, match="a probe uses 1 feature or more; got 0"):
            sparse_probe(view, Question("number"), basis, most=[0])
        with pytest.raises(InputError, match="there are 8 features; a probe cannot use more"):
            sparse_probe(view, Question("number"), basis, most=[9])
