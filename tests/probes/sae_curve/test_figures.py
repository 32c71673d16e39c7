"""The picture of a curve: what is drawn is what the table says."""

import numpy as np
import pandas as pd
import pytest

from cache.errors import InputError
from probes.sae_curve.figures import explained_by_cost


def table_of(tokens=(1000, 5000, 20000), widths=(512, 2048), shares=(0.2,), seeds=(0, 1), sites=("a",), index=0.8):
    lines = []
    for text in tokens:
        for width in widths:
            for share in shares:
                for site in sites:
                    for seed in seeds:
                        point = {"width": width, "sequences": share, "tokens": text, "steps": 500}
                        value = 0.4 + text / 1e5 + width / 1e4 + share / 10 + seed / 100
                        for part, rows in (("documents", 900), ("templates", 90), ("frames", 9)):
                            line = {"sae": f"{site}/seed-{seed}", "part": part, "explained_variance": value}
                            kept = index if part == "templates" else np.nan
                            lines.append(point | line | {"n_rows": rows, "index_variance": kept})
    return pd.DataFrame(lines)


def curves(axis):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axis.lines}


def test_what_has_most_values_is_along_the_axis_and_the_rest_are_lines():
    table = table_of()
    figure = explained_by_cost(table)
    axes = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in axes] == ["documents", "templates", "frames", "index at members, templates"]
    assert axes[0].get_xlabel() == "tokens of text"
    assert axes[0].get_xscale() == "log"
    found = curves(axes[0])
    assert set(found) == {"512 features", "2,048 features"}
    mean = (
        table[(table["part"] == "documents") & (table["width"] == 512)].groupby("tokens")["explained_variance"].mean()
    )
    assert found["512 features"] == pytest.approx(mean.to_numpy())
    assert "mean of 2 seeds" in figure.caption
    assert "documents 900 rows" in figure.caption


def test_tokens_are_numbers_as_a_person_writes_them():
    figure = explained_by_cost(table_of(tokens=(1000, 250_000, 2_000_000), widths=(512, 1_048_576)))
    figure.draw_without_rendering()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1,000", "250,000", "2,000,000"]
    assert {"512 features", "1,048,576 features"} <= set(curves(figure.axes[0]))


def test_two_sites_and_three_things_varied_are_told_apart():
    table = table_of(widths=(512,), shares=(0.1, 0.2, 0.3, 0.4), tokens=(1000, 5000), sites=("a", "b"), index=np.nan)
    figure = explained_by_cost(table)
    axes = [axis for axis in figure.axes if axis.get_title()]
    assert len(axes) == 6
    assert axes[0].get_title() == "documents\na"
    assert axes[0].get_xlabel() == "share of sequences"
    assert axes[0].get_xscale() == "linear"
    assert set(curves(axes[3])) == {"1,000 tokens of text", "5,000 tokens of text"}


def test_one_point_and_values_below_zero_are_drawn():
    table = table_of(tokens=(0,), widths=(512,), seeds=(0,)).assign(explained_variance=-3.0)
    figure = explained_by_cost(table)
    assert "SAEs" in curves(figure.axes[0])
    assert figure.caption.endswith("Triangles: values below 0, drawn there.")


def test_panels_of_the_callers_must_be_as_many():
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 2)
    with pytest.raises(InputError, match="the figure has 4 panels, and takes as many axes; got 2"):
        explained_by_cost(table_of(), ax=axes)
    plt.close("all")
