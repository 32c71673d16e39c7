"""What the captions of interventions' pictures say."""

import pandas as pd

from cache.shown.counts import numbers_in
from geometry.figures.captions import counted, sentences
from geometry.results.result import LayerResult
from geometry.stats.uncertainty import LEAST_MEMBERS

UNDECIDED = f"° fewer than {LEAST_MEMBERS} members: a value, no claim"
"""What the ring beside a value says."""

_PLACES = {"last": "the last token", "members": "all shown members", "both": "the last token and all shown members"}


def of_transfer_matrices(result: LayerResult, table: pd.DataFrame) -> str:
    """What `transfer_matrices` shows."""
    return (
        f"Share of edits after which the likeliest token is the answer moved to: in a receiver's prompts (rows) a "
        f"donor's step from index to index is added at {_places(result, table)}. {_counted(table)} Layers shown, of "
        f"{table['layer'].nunique()}: those at which the families' own steps succeed most often."
    )


def of_erasure_matrices(result: LayerResult, table: pd.DataFrame) -> str:
    """What `erasure_matrices` shows."""
    return (
        f"Share of a receiver's prompts (rows) that are still answered rightly once a donor's index subspace (rank "
        f"{result.parameters['rank']}) is removed at {_places(result, table)}. {_counted(table)} A star: necessary (q "
        f"at most .05 against {result.parameters['n_null']} unrelated donors, and less left than by subspaces within "
        "members and of controls). Columns at the right: the mean of unrelated donors, of subspaces within members, "
        f"and no edit. Layers shown, of {table['layer'].nunique()}: those at which removing the families' own "
        "leaves least."
    )


def of_transfer(result: LayerResult, table: pd.DataFrame) -> str:
    """What `transfer_by_layer` shows."""
    return sentences(
        "Share of edits after which the likeliest token is the answer moved to, over layers, a panel a receiver: a "
        f"donor's step from index to index is added at {_places(result, table)}.",
        _counted(table),
        *_curves(table, "steps"),
        f"Dashed: the mean of {result.parameters['n_null']} null donors." if table["null_mean"].notna().any() else "",
    )


def of_erasure(result: LayerResult, table: pd.DataFrame) -> str:
    """What `erasure_by_layer` shows."""
    null = f"Dashed: the mean of {result.parameters['n_null']} unrelated donors' subspaces."
    return sentences(
        "Share of prompts that are still answered rightly once a donor's index subspace (rank "
        f"{result.parameters['rank']}) is removed at {_places(result, table)}, over layers, a panel a receiver.",
        _counted(table),
        *_curves(table, "subspace"),
        null if table["null_mean"].notna().any() else "",
        "Dotted: no edit.",
    )


def of_last_or_answer(result: LayerResult, table: pd.DataFrame) -> str:
    """What `last_or_answer_by_layer` shows."""
    interval = "Bands: 95 % intervals over members." if table["as_last_ci_low"].notna().any() else ""
    return sentences(
        f"What the last token's code at {result.parameters['site']} is read as, over layers, a panel a family and kind "
        "of donor: the share of edits after which the likeliest token follows the donor's last member, or is the "
        "donor's answer.",
        _counted(table),
        interval,
        "Dotted: the share whose likeliest token stays.",
    )


def at_positions(result: LayerResult, positions: str | None) -> pd.DataFrame:
    """The lines of a result at one position set, the first unless another is named."""
    wanted = positions or result.parameters["positions"][0]
    return result.table[result.table["positions"] == wanted]


def title(result: LayerResult, table: pd.DataFrame, what: str) -> str:
    """What stands above the figure: the site, the positions and what is done there."""
    first = table.iloc[0]
    few = f"\n{UNDECIDED}" if (table["n_members"] < LEAST_MEMBERS).any() else ""
    contexts = numbers_in(first, "template", template="context")
    return f"{result.parameters['site']}, {first['positions']}: {what} ({contexts}){few}"


def _curves(table: pd.DataFrame, what: str) -> list[str]:
    """What the curves beside each other are."""
    own, n_controls = (
        table[table["donor_kind"] == "own"],
        table.loc[table["donor_kind"] == "control", "donor"].nunique(),
    )
    interval = ", with 95 % intervals over members" if own["ci_low"].notna().any() else ""
    return [
        f"Bold: the receiver's own {what}{interval}." if len(own) else "",
        f"Grey: from the lowest to the highest of {n_controls} control families." if n_controls else "",
    ]


def _places(result: LayerResult, table: pd.DataFrame) -> str:
    """The tokens and the site at which prompts are edited, and through what codes are read, if through anything."""
    named, basis = str(table["positions"].iloc[0]), result.parameters.get("basis")
    through = f" (codes are what {basis} carry)" if basis else ""
    return f"{_PLACES.get(named, named)}, {result.parameters['site']}{through}"


def _counted(table: pd.DataFrame) -> str:
    few = f" {UNDECIDED}." if (table["n_members"] < LEAST_MEMBERS).any() else ""
    return f"{counted(table, rows='edited prompt', templates='context').capitalize()}.{few}"
