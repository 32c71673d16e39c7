"""SAEs beside what is simpler: what each basis explains, and what single features of it tell.

    geometry sae train STORE --hook blocks.20.hook_resid_post --leave-out-frames lines --seeds 3 --out SAES
    python scripts/sae_study.py STORE SAES OUT [--neurons STORE2] [--shuffled STORE3 SAES3] [--families digits,...]

STORE has running text and sequences, SAES what `geometry sae train` made of it. Beside the SAEs stand one before its
first step (`untrained`), `pca-K` and `nmf-K` with as many components as an SAE has active features, fitted to rows that
train, and the site's own dimensions; with --neurons the block's MLP neurons (a store of mlp_post), with --shuffled an
SAE of a model whose weights are shuffled (`scripts/shuffled_model.py`).

explained.csv  explained variance and index kept, of documents, templates and frames left out
probes.csv     k-sparse probes, k = 1, 2, 5: the family with templates left out, the number with members left out
tuning.csv     how selective the ten most selective features are for members, in templates that did not choose them
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cache import ActivationStore, Hook
from cache.store.view import View
from cache.whole_files import write_whole
from geometry import nmf, pca
from geometry.bases.basis import FeatureBasis
from probes.directions.features import basis_at
from probes.linear.sparse import sparse_probe
from probes.linear.tasks import Question
from probes.linear.tuning import tuned_features
from probes.sae.load import load_sae
from probes.sae_training.left_out import left_out_quality
from probes.sae_training.plan import SAEPlan
from probes.sae_training.split import Split
from probes.sae_training.train import train_saes

QUESTIONS = (("family", "template"), ("number", "member"))
WHERE = "is_last and frame in ['quote', 'paren', 'eq']"
N_FITTED = {"pca": 40_000, "nmf": 4_000}
"""Rows that PCA and NMF are fitted to, spread evenly over those that train."""


@dataclass(frozen=True, eq=False)
class Studied:
    """A basis at a site, or that site's own dimensions; where it is read off; and the split that it was trained by."""

    name: str
    hook: Hook
    view: View
    basis: FeatureBasis | None = None
    split: Split | None = None


def plan_of(saes: Path, store: ActivationStore) -> SAEPlan:
    """The plan that SAEs were trained by."""
    told: dict[str, Any] = json.loads((saes / "training.json").read_text(encoding="utf-8"))
    chosen = {name: told[name] for name in SAEPlan.__dataclass_fields__ if name in told}
    hooks = tuple(store.site(name) for name in chosen.pop("hooks"))
    return SAEPlan(hooks, **{name: tuple(one) if isinstance(one, list) else one for name, one in chosen.items()})


def spread(rows: np.ndarray, n: int, n_rows: int) -> np.ndarray:
    """A mask of some of the rows, evenly."""
    mask = np.zeros(n_rows, dtype=bool)
    mask[rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]] = True
    return mask


def simple_bases(store: ActivationStore, hook: Hook, split: Split, k: int) -> Iterator[tuple[str, FeatureBasis]]:
    """PCA and NMF of rows that train."""
    rows = np.sort(np.concatenate([split.rows(part) for part in ("text", "sequences")]))
    masks = {name: spread(rows, n, len(store.rows)) for name, n in N_FITTED.items()}
    yield f"pca-{k}", basis_at(store, hook, pca(store.load(hook, masks["pca"]), k=k).basis)
    yield f"nmf-{k}", basis_at(store, hook, nmf(store.load(hook, masks["nmf"]), k=k, n_runs=1).decomposition.basis)


def saes_at(store: ActivationStore, plan: SAEPlan, folder: Path, hook: Hook) -> Iterator[tuple[str, FeatureBasis]]:
    """The trained SAEs of a site."""
    for seed in plan.seeds:
        yield f"sae seed {seed}", load_sae(folder / hook.name / f"seed-{seed}", store=store)


def untrained(store: ActivationStore, plan: SAEPlan, out: Path, hook: Hook) -> FeatureBasis:
    """The SAE of the first seed before it has learned: one step that changes nothing."""
    first = replace(plan, hooks=(hook,), seeds=plan.seeds[:1], steps=1, lr=1e-12)
    (folder,) = train_saes(store, first, out / "untrained" / hook.name)
    return load_sae(folder, store=store)


def read_off(one: Studied, families: list[str], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """k-sparse probes, and tuning curves."""
    probes = [
        sparse_probe(one.view, Question(target, left_out, families), one.basis, seed=seed).assign(target=target)
        for target, left_out in QUESTIONS
    ]
    return pd.concat(probes), tuned_features(one.view, one.basis, families, seed=seed)


def of_the_study(arguments: argparse.Namespace) -> Iterator[Studied]:
    """Every basis at every site."""
    with ActivationStore.open(arguments.store) as store:
        plan = plan_of(arguments.saes, store)
        split = plan.split(store)
        for hook in plan.hooks:
            view = store.view(hook.kind, hook.layer, arguments.where)
            yield Studied("dimensions", hook, view)
            for name, basis in saes_at(store, plan, arguments.saes, hook):
                yield Studied(name, hook, view, basis, split)
            yield Studied("untrained", hook, view, untrained(store, plan, arguments.out, hook), split)
            for name, basis in simple_bases(store, hook, split, plan.k):
                yield Studied(name, hook, view, basis, split)
    if arguments.neurons:
        with ActivationStore.open(arguments.neurons) as store:
            for hook in plan.hooks:
                yield Studied("neurons", hook, store.view("mlp_post", hook.layer, arguments.where))
    if arguments.shuffled:
        with ActivationStore.open(arguments.shuffled[0]) as store:
            plan = plan_of(arguments.shuffled[1], store)
            for hook in plan.hooks:
                _, basis = next(saes_at(store, plan, arguments.shuffled[1], hook))
                view = store.view(hook.kind, hook.layer, arguments.where)
                yield Studied("shuffled model", hook, view, basis, plan.split(store))


def study(arguments: argparse.Namespace) -> None:
    """What is found of each basis is written as it comes."""
    found: dict[str, list[pd.DataFrame]] = {"explained": [], "probes": [], "tuning": []}
    for one in of_the_study(arguments):
        mark = {"basis": one.name, "layer": one.hook.layer}
        probes, tuning = read_off(one, arguments.families.split(","), arguments.seed)
        explained = pd.DataFrame()
        if one.basis is not None and one.split is not None:
            explained = left_out_quality(one.basis, one.view.store, one.split)
        for part, table in (("explained", explained), ("probes", probes), ("tuning", tuning)):
            found[part].append(table.assign(**mark))
            told = pd.concat(found[part])
            told = told[[*mark, *(column for column in told if column not in mark)]]
            write_whole(arguments.out / f"{part}.csv", told.to_csv(index=False, float_format="%.6g"))
        print(f"layer {one.hook.layer}: {one.name}", flush=True)


def main() -> None:
    """Parse, study, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("saes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--neurons", type=Path, help="a store of mlp_post at the same layers and prompts")
    parser.add_argument("--shuffled", type=Path, nargs=2, metavar=("STORE", "SAES"))
    parser.add_argument("--families", default="digits,numwords,months")
    parser.add_argument(
        "--where", default="is_last and frame in ['quote', 'paren', 'eq']", help="rows that are read off"
    )
    parser.add_argument("--seed", type=int, default=0)
    torch.set_num_threads(1)
    study(parser.parse_args())


if __name__ == "__main__":
    main()
