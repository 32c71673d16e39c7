"""Pictures of probes: what is drawn is what the table says."""

import numpy as np
import pandas as pd
import pytest

from cache import Hook
from probes.linear.figures import probes_by_layer
from tests.results import of_table

NUMBERS = {"n_permutations": 3, "n_control_tasks": 5}
HOOKS = (Hook("resid_pre", 0), Hook("resid_post", 0), Hook("resid_post", 1))


def table_of(target, leave_out, value, *, se=0.05, chance=0.25, control_max=np.nan):
    lines = pd.DataFrame({"layer": [-1, 0, 1], "value": value, "control_task": [0.2, 0.3, -4.0], "null_max": 0.35})
    labels = {
        "target": target,
        "leave_out": leave_out,
        "se": se,
        "chance": chance,
        "null_mean": 0.24,
        "control_max": control_max,
    }
    return lines.assign(**labels, n_members=6, n_templates=10)


def result(*tables):
    probes = [{"families": ["digits", "months"]} for _ in tables]
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(probe=table["target"] + table["leave_out"])
    return of_table("probe", HOOKS, table, ["probe"], parameters=NUMBERS | {"probes": probes})


def drawn(axis):
    lines = [line for line in axis.get_lines() if line.get_marker() != "v"]
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in lines}


@pytest.fixture
def figure():
    tables = [
        table_of("family", "member", [0.25, 0.9, 1.0]),
        table_of("family", "template", [0.25, 0.8, 1.0], control_max=0.6),
    ]
    tables += [table_of("number", "member", [0.0, -7.0, 0.5], chance=0.0)]
    tables += [table_of(target, "template", [0.2, 0.3, 0.4]) for target in ("member", "number")]
    return probes_by_layer(result(*tables))


def test_every_probe_has_a_panel_with_its_name(figure):
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == [
        "family, members left out",
        "family, templates left out",
        "number, members left out",
        "member, templates left out",
        "number, templates left out",
    ]
    assert [axis.get_ylabel() for axis in figure.axes[:4]] == ["accuracy", "accuracy", "R²", "accuracy"]
    assert len(figure.axes) == 6
    assert figure.get_suptitle() == "resid_post: linear probes of digits, months; 6 members, 10 templates"


def test_score_chance_and_control_task_are_drawn_and_what_is_below_minus_one_at_minus_one(figure):
    family, number = figure.axes[0], figure.axes[2]
    assert drawn(family) == {"probe": [0.25, 0.9, 1.0], "chance": [0.25] * 3, "control task": [0.2, 0.3, -1.0]}
    assert drawn(number)["probe"] == [0.0, -1.0, 0.5]
    assert number.get_ylim()[0] < -1
    assert len(family.collections) == 2  # the null and the standard errors


def test_a_target_keeps_its_colour(figure):
    colours = [[line.get_color() for line in axis.get_lines() if line.get_label() == "probe"] for axis in figure.axes]
    assert colours[0] == colours[1] != colours[2] == colours[4]


def test_the_legend_names_each_thing_once(figure):
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(names) == {
        "permuted labels, mean to largest",
        "chance",
        "control task",
        "highest of control families",
        "probe",
    }
    assert len(names) == 5


def test_control_families_are_drawn_where_there_are_any(figure):
    assert drawn(figure.axes[1])["highest of control families"] == [0.6] * 3
    assert "highest of control families" not in drawn(figure.axes[0])


def test_one_probe_by_itself_and_without_errors_is_drawn_too():
    one = result(table_of("angle", "member", [0.1, 0.2, 0.3], se=np.nan))
    alone = of_table(
        "probe",
        HOOKS,
        one.table.drop(columns="hook"),
        ["probe"],
        parameters=NUMBERS | {"site": "z", "families": ["days"]},
    )
    figure = probes_by_layer(alone)
    assert figure.axes[0].get_ylabel() == "mean cosine"
    assert len(figure.axes[0].collections) == 1
    assert "z: linear probes of days" in figure.get_suptitle()


def test_scores_below_the_axis_are_marked_where_they_are_and_the_caption_says_so(figure):
    marks = [line for axis in figure.axes for line in axis.get_lines() if line.get_marker() == "v"]
    at = {tuple(np.asarray(line.get_xdata()).tolist()): line.get_ydata() for line in marks if len(line.get_xdata())}
    assert at == {(0,): [-1.0], (1,): [-1.0]}  # number at layer 0; the control tasks at layer 1
    assert "Triangles: values below -1, drawn there." in figure.caption
    inside = probes_by_layer(result(table_of("family", "member", [0.25, 0.9, 1.0]).assign(control_task=0.2)))
    assert "Triangles" not in inside.caption
    assert not [line for line in inside.axes[0].get_lines() if line.get_marker() == "v" and len(line.get_xdata())]
