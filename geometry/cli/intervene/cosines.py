"""`geometry cosines`: are the steps between families the same direction, layer by layer?"""

import sys
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import InputError
from geometry.cli.console import options
from geometry.cli.console.terminal import console, drawing, print_table
from geometry.cli.console.viewed import viewed
from geometry.cli.record.store import StoreFile

if TYPE_CHECKING:
    from cache.store.store import ActivationStore


def cosines(
    file: StoreFile,
    families: options.FamilyNames = None,
    site: options.Site = "resid_post",
    layers: options.SpreadLayers = "spread",
    where: options.Where = None,
    method: Annotated[
        str, typer.Option(help="mean_difference pca logistic lda mean_only, as for direction.")
    ] = "mean_difference",
    out: options.Out = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Cosines between the directions from each family to each after it, and of two steps with the third they make."""
    from geometry.report import write_report
    from geometry.results.over import forget
    from probes.cosines.by_layer import cosines_by_layer
    from probes.cosines.figures import cosines_over_layers

    names = options.families_of(families)
    folder = options.results_folder(out, f"{file.stem}-cosines")
    with viewed(file, site, layers, where, folder, quiet=quiet) as (view, loop):
        result = cosines_by_layer(view, _pairs(view.store, names), method=method, loop=loop)
        with drawing(quiet=quiet):
            paths = write_report(result, {"cosines": cosines_over_layers(result)}, folder)
        forget(folder)
    if as_json:
        sys.stdout.write(result.table.to_json(orient="records", indent=2) + "\n")
    else:
        counts = result.table.iloc[0]
        what = f"{counts['n_members']} members, {counts['n_templates']} templates"
        wide = result.table.pivot_table(
            index=["first", "second"], columns="layer", values="cosine", sort=False, dropna=False
        )
        title = f"cosines of {result.parameters['method']} at {result.parameters['site']}, by layer: {what}"
        print_table(wide.dropna(how="all").reset_index().rename(columns=str), title=title)
    say = console(quiet=quiet)
    if not any(name.startswith("control:") for name in result.parameters["pairs"]):
        say.print("no direction between controls beside them: record control:0-1", markup=False)
    say.print(f"rows: {result.parameters['where']}\n" + "\n".join(str(path) for path in paths), markup=False)


def _pairs(store: "ActivationStore", names: list[str] | None) -> list[tuple[str, str]]:
    """Every two families in their order; beside them the store's first two controls."""
    from geometry.rows.analysed import families_text
    from geometry.rows.cells import CONTROL_PREFIX

    known = list(dict.fromkeys(filter(None, store.prompts["family"])))
    wanted = [name for name in known if not name.startswith(CONTROL_PREFIX)] if names is None else names
    if len(wanted) < 2:
        raise InputError(f"a direction leads from one family to another; got {len(wanted)}: {families_text(store)}")
    controls = [name for name in known if name.startswith(CONTROL_PREFIX) and name not in wanted][:2]
    return [*combinations(wanted, 2), *([(controls[0], controls[1])] if len(controls) == 2 else [])]
