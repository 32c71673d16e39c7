"""What a comparison of families comes to, pair by pair, in words."""

import pandas as pd

from cache.errors import InputError
from geometry.between.table import DESCRIBES
from geometry.layers.order_effect import LEAST_LISTS
from geometry.results.result import LayerResult
from geometry.similarity.sharing_null import LEAST_RELIABILITY
from geometry.similarity.verdict import ALPHA, PRIVATE
from geometry.stats.uncertainty import LEAST_CONTROLS, LEAST_MEMBERS

SHOWN = ("measure", "layer", "value", "ci_low", "ci_high", "p_layers", "q", "control_max", "control_limit")
COUNTED = ("reliability", "n_members", "n_templates")
REMOVED = ("readout_removed", "index_removed")
ORDERED = ("reordered", "order_p", "order_q", "order_bound", "n_orders")
WORD_BOUND = 0.5


def summary(result: LayerResult, *, measure: str | None = None) -> pd.DataFrame:
    """One line a pair: its verdict over layers, and the layer that speaks loudest with its company.

    Of the layers at which both families have a reliable index effect, shared ones first, the one with the smallest p is
    shown (of those at the floor the one farthest from the null). `shared`: a layer is. `private`: no layer is above its
    limit, and the largest upper bound of any is below .25. Otherwise `undecided`, with what would decide it.

    Args:
        result: of `between_pairs`.
        measure: the deciding measure to go by; None for the first one that the result has.

    Returns:
        Columns `a, b, verdict, code` (what a shared code is one of, see `code_of`), `shared_from` (the first layer from
        which on all are shared; nan if none), `measure`,
        `layer, value, ci_low, ci_high, p_layers, q, control_max, control_limit`, `readout_removed` (the value without
        the members' unembedding directions) and `index_removed` (the share of index variance that went with them: of
        1 or 2 % that control shows nothing), `reordered` (the value in reordered lists, aligned by word), `order_p`,
        `order_q`, `order_bound`, `n_orders` (at the shared layer where order speaks loudest), `reliability, n_members,
        n_templates`. Empty if the result has no deciding measure.
    """
    deciding = result.table[result.table["verdict"] != DESCRIBES]
    there = list(dict.fromkeys(deciding["measure"]))
    if measure is not None and measure not in there:
        raise InputError(f"no measure {measure!r} that decides; the result has {', '.join(there) or 'none'}")
    name = measure or (there[0] if there else None)
    lines = []
    for (a, b), mine in deciding[deciding["measure"] == name].groupby(["a", "b"], sort=False):
        plain = mine[mine["variant"] == "plain"]
        removed = mine[mine["variant"] != "plain"].set_index("layer")
        best, ordered = loudest(plain), _by_order(plain)
        line = {"a": a, "b": b, "verdict": words(plain), "code": code_of(ordered), "shared_from": _shared_from(plain)}
        line |= {column: best[column] for column in (*SHOWN, *COUNTED)}
        line |= {column: ordered[column] for column in ORDERED}
        for column, source in zip(REMOVED, ("value", "index_removed"), strict=True):
            line[column] = removed[source].get(best["layer"], float("nan"))
        lines.append(line)
    return pd.DataFrame(
        lines, columns=["a", "b", "verdict", "code", "shared_from", *SHOWN, *REMOVED, *ORDERED, *COUNTED]
    )


def loudest(plain: pd.DataFrame) -> pd.Series:
    """The line that is shown of a pair: a shared one if there is one, by p and then by distance from the null."""
    distance = (plain["value"] - plain["null_mean"]) / plain["null_sd"]
    ranked = plain.assign(
        unshared=plain["verdict"] != "shared",
        silent=~_has_effect(plain),
        rank=plain["p_layers"].fillna(2),
        distance=-distance.fillna(plain["value"]).fillna(-float("inf")),
    )
    return plain.loc[ranked.sort_values(["unshared", "silent", "rank", "distance"], kind="stable").index[0]]


def words(plain: pd.DataFrame) -> str:
    """The verdict of one pair over layers."""
    if (plain["verdict"] == "shared").any():
        return "shared"
    best, able = loudest(plain), plain[_has_effect(plain)]
    if best["n_members"] < LEAST_MEMBERS:
        return f"undecided (n members = {best['n_members']}: record {LEAST_MEMBERS} or more)"
    if not len(able):
        if not (plain["own_p"] <= ALPHA).any():
            return "no index effect"
        return f"undecided (reliability at most {plain['reliability'].max():.2f}: record more templates)"
    if best["n_controls"] < LEAST_CONTROLS:
        return f"undecided (n controls = {best['n_controls']}: record control:0-19)"
    if not (able["value"] > able["control_limit"]).any() and not (able["q"] <= ALPHA).any():
        bound = able["ci_high"].max()
        if bound < PRIVATE:
            return "private"
        if bound == bound:
            return f"undecided (up to {bound:.2f} possible: record more members)"
    reason = str(best["verdict"])
    at_floor = reason.startswith("undecided (q") and best["p_layers"] <= 2 * best["p_floor"]
    return reason.replace(")", f": {'compare fewer pairs' if at_floor else 'record more members'})")


def code_of(line: pd.Series) -> str:
    """What a shared code is one of, by the layer where the order speaks loudest; empty without reordered lists.

    - `index`: the families share more in increasing order than in reordered lists (q at most .05 over layers and shared
      pairs), so that the order matters.
    - `word`: what they share stays above the controls when members stand in other orders, and at most half of it can
      be due to their order.
    - `index and word`: the order matters, and something stays without it.
    - `undecided (...)`: anything else, with the reason.
    """
    if line["verdict"] != "shared" or not line["n_orders"]:
        return ""
    if line["n_orders"] < LEAST_LISTS:
        return f"undecided (n orders = {line['n_orders']}: record reordered:0-{LEAST_LISTS})"
    stays = bool(line["reordered"] > line["control_limit"])
    if line["order_q"] <= ALPHA:
        return "index and word" if stays else "index"
    if stays and line["order_bound"] <= WORD_BOUND:
        return "word"
    return f"undecided (order q = {line['order_q']:.3g}: record more reordered lists)"


def _by_order(plain: pd.DataFrame) -> pd.Series:
    """The shared line at which the order of the members speaks loudest; the loudest of all where none is shared."""
    shared = plain[(plain["verdict"] == "shared") & plain["order_p"].notna()]
    return loudest(plain) if not len(shared) else shared.sort_values("order_p", kind="stable").iloc[0]


def _has_effect(lines: pd.DataFrame) -> pd.Series:
    return (lines["own_p"] <= ALPHA) & (lines["reliability"] >= LEAST_RELIABILITY) & lines["value"].notna()


def _shared_from(plain: pd.DataFrame) -> float:
    """The first layer from which on every layer is called shared."""
    layers = []
    for layer, word in zip(plain["layer"][::-1], plain["verdict"][::-1], strict=True):
        if word != "shared":
            break
        layers.append(layer)
    return float(layers[-1]) if layers else float("nan")
