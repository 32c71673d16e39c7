"""Tuning curves: features that vary with the member, chosen in half of the templates and told of in the others."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cache.errors import InputError
from cache.repeatable import check_seed
from cache.store.view import View
from geometry.bases.basis import FeatureBasis
from geometry.rows.analysed import unit_of_rows
from geometry.rows.names import names_of
from probes.linear.probe import group_codes

MOST_TUNED = 10
"""Features that are told of, those most selective in half of the templates."""

Halves = tuple[Bool[np.ndarray, " row"], Bool[np.ndarray, " row"]]


def tuned_features(
    view: View,
    basis: FeatureBasis | None = None,
    families: Sequence[str] | None = None,
    *,
    most: int = MOST_TUNED,
    n_permutations: int = 19,
    seed: int = 0,
) -> pd.DataFrame:
    """How selective features are for members: the share of a feature's variance that lies between members.

    In every second template the most selective features are chosen; their selectivity and width are of the others, so
    that a basis of more features gains nothing by having more to choose from. Describes, and gives no p.

    Args:
        view: the rows; each prompt's last token where it asks for none. Of its sites the basis's own is read.
        basis: the features, at a site that it knows; None for the view's one site's own dimensions.
        families: which; None for all but the controls.
        most: how many features are chosen.
        n_permutations: times that members are permuted within templates before features are chosen.
        seed: of the permutations.

    Returns:
        A row a family: `family`, `selectivity` (mean over the features chosen; 0 to 1), `width` (mean share of members
        at which a feature is more than halfway from its middle to its peak: one of n members gives 1/n), `null_mean`
        and `null_max` of selectivity, `features` (numbers, space-separated), `n_members`, `n_templates`, `n_rows`.

    Raises:
        InputError: no site, no such family, one template or member alone, or no feature or permutation.

    References: eta squared, Fisher 1925; choosing and telling on other data, Kriegeskorte et al. 2009.

    Example:
        >>> sae = load_sae("sae", store=store)
        >>> table = tuned_features(store.view(where="frame == 'quote'"), sae, n_permutations=2)
        >>> bool(table["selectivity"].between(0, 1).all())
        True
    """
    if most < 1 or n_permutations < 1:
        raise InputError(f"tuning takes a feature and a permutation at least; got {most} and {n_permutations}")
    hooks = view.hooks if basis is None else (basis.hook,)
    if len(hooks) != 1 or hooks[0] is None:
        raise InputError("tuning curves are of one site: that of a basis which knows it, or the only one of the view")
    mask = view.chosen()
    rows = view.store.rows[mask]
    x = view.store.load(hooks[0], mask)
    features = (x if basis is None else basis.encode(x)).double().numpy()
    asked = names_of(view.store.families if families is None else families)
    lines = []
    for number, family in enumerate(asked):
        mine = (rows["family"] == family).to_numpy()
        if not mine.any():
            raise InputError(f"no row of the view is of family {family!r}")
        member = np.array(unit_of_rows(view.store, rows[mine]))
        template = group_codes((rows["frame"] + "|" + rows["template"].astype(str))[mine].tolist())
        rng = np.random.default_rng([check_seed(seed), number])
        halves = (template % 2 == 0, template % 2 == 1)
        told = _told(features[mine], member, halves, most)
        null = [_told(features[mine], _permuted(member, template, rng), halves, most) for _ in range(n_permutations)]
        chance = np.array([one["selectivity"] for one in null])
        counts = {"n_members": len(set(member)), "n_templates": int(template.max()) + 1, "n_rows": int(mine.sum())}
        lines.append({"family": family, **told, "null_mean": chance.mean(), "null_max": chance.max(), **counts})
    return pd.DataFrame(lines)


def selectivity(
    features: Float[np.ndarray, "row feature"], member: Int[np.ndarray, " row"]
) -> Float[np.ndarray, " feature"]:
    """The share of each feature's variance that lies between members; 0 of what does not vary."""
    means = np.stack([features[member == one].mean(axis=0) for one in np.unique(member)])
    counts = np.array([(member == one).sum() for one in np.unique(member)])
    middle = features.mean(axis=0)
    between = (counts[:, None] * np.square(means - middle)).sum(axis=0)
    total = np.square(features - middle).sum(axis=0)
    return np.divide(between, total, out=np.zeros_like(total), where=total > 1e-12 * max(total.max(initial=0), 1e-300))


def _told(
    features: Float[np.ndarray, "row feature"], member: Int[np.ndarray, " row"], halves: Halves, most: int
) -> dict[str, object]:
    """What is chosen in the first half, and how it does in the second."""
    choose, tell = halves
    if not tell.any() or len(np.unique(member)) < 2:
        raise InputError("tuning curves take 2 templates and 2 members of a family; record more")
    order = np.argsort(-selectivity(features[choose], member[choose]), kind="stable")[:most]
    found = features[tell][:, order]
    means = np.stack([found[member[tell] == one].mean(axis=0) for one in np.unique(member[tell])])
    away = np.abs(means - np.median(means, axis=0))
    peak = away.max(axis=0)
    width = (away > peak / 2)[:, peak > 0].mean() if (peak > 0).any() else np.nan
    return {
        "selectivity": float(selectivity(found, member[tell]).mean()),
        "width": float(width),
        "features": " ".join(map(str, order)),
    }


def _permuted(
    member: Int[np.ndarray, " row"], template: Int[np.ndarray, " row"], rng: np.random.Generator
) -> Int[np.ndarray, " row"]:
    """Members exchanged within every template."""
    drawn = member.copy()
    for one in np.unique(template):
        drawn[template == one] = rng.permutation(member[template == one])
    return drawn
