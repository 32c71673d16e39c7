"""The loop over sites: what is finished is kept, what was stopped goes on to the same bytes, the rest begins anew."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from cache import Hook
from cache.errors import InputError, NotAvailableError
from geometry.results.over import ALONE, Analysis, Loop, forget, over
from geometry.results.packing import pack

SITES = tuple(Hook("resid_post", layer) for layer in range(5))
ANALYSIS = Analysis("sum", {"seed": 3, "k": 2, "where": "is_last"}, "ab" * 32)


@dataclass(frozen=True)
class Value:
    layer: int
    drawn: np.ndarray


class Work:
    """A unit that counts, and is broken off at some layer."""

    def __init__(self, seed=3, stop_at=None, stop=KeyboardInterrupt):
        self.seed, self.stop_at, self.stop, self.done = seed, stop_at, stop, []

    def __call__(self, hook):
        if hook.layer == self.stop_at:
            raise self.stop
        self.done.append(hook.layer)
        return {"x": np.random.default_rng([self.seed, hook.layer]).normal(size=7), "n": hook.layer}


class Told:
    """A loop that keeps in a folder, and what it says."""

    def __init__(self, folder):
        self.said, self.hooks = [], []
        self.loop = Loop(self.hooks.append, folder, self.said.append)


def stopped(folder, at=3, analysis=ANALYSIS):
    with pytest.raises(KeyboardInterrupt):
        over(SITES, Work(stop_at=at), analysis, Told(folder).loop)


def names_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_site_is_worked_through_in_order_and_told_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told, work = Told(None), Work()
    found = over(SITES, work, ANALYSIS, told.loop)
    assert [one["n"] for one in found] == work.done == [0, 1, 2, 3, 4]
    assert (told.hooks, told.said) == (list(SITES), [])
    assert pack(over(SITES, Work(), ANALYSIS)) == pack(over(SITES, Work(), ANALYSIS, ALONE)) == pack(found)
    assert over((), work, ANALYSIS) == []
    assert list(tmp_path.iterdir()) == []


def test_a_loop_has_a_bar_that_moves_with_every_site(bars):
    over(SITES, Work(), ANALYSIS)
    over(SITES, Work(), replace(ANALYSIS, part="rest-"), Loop(show=False))
    assert bars == [("sum", 5, True, [1, 2, 3, 4, 5]), ("sum rest", 5, False, [1, 2, 3, 4, 5])]


def test_an_analysis_that_was_stopped_goes_on_to_the_same_bytes_without_what_was_finished(tmp_path):
    whole = pack(over(SITES, Work(), ANALYSIS))
    stopped(tmp_path)
    told, work = Told(tmp_path), Work()
    assert pack(over(SITES, work, ANALYSIS, told.loop)) == whole
    assert work.done == [3, 4]
    assert told.said == [f"3 finished before and kept in {tmp_path} are not computed again"]
    assert told.hooks == list(SITES)
    again = Work()
    assert pack(over(SITES, again, ANALYSIS, Told(tmp_path).loop)) == whole
    assert again.done == []


def test_it_may_be_stopped_again_and_again(tmp_path):
    done = []
    for at in (0, 1, 3, 4):
        work = Work(stop_at=at)
        with pytest.raises(KeyboardInterrupt):
            over(SITES, work, ANALYSIS, Told(tmp_path).loop)
        done += work.done
    work = Work()
    assert pack(over(SITES, work, ANALYSIS, Told(tmp_path).loop)) == pack(over(SITES, Work(), ANALYSIS))
    assert done + work.done == [0, 1, 2, 3, 4]


def test_ctrl_c_of_who_watches_loses_no_finished_site(tmp_path):
    def stop(hook):
        if hook.layer == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        over(SITES, Work(), ANALYSIS, Loop(stop, tmp_path))
    work = Work()
    over(SITES, work, ANALYSIS, Told(tmp_path).loop)
    assert work.done == [2, 3, 4]


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (replace(ANALYSIS, parameters={**ANALYSIS.parameters, "seed": 4}), "seed"),
        (replace(ANALYSIS, parameters={**ANALYSIS.parameters, "where": "value > 3"}), "where"),
        (replace(ANALYSIS, parameters={**ANALYSIS.parameters, "pairs": ["a - b"]}), "pairs"),
        (replace(ANALYSIS, parameters={"seed": 3, "k": 2}), "where"),
        (replace(ANALYSIS, source="cd" * 32), "source"),
        (replace(ANALYSIS, name="product"), "name"),
    ],
)
def test_another_configuration_begins_anew_and_says_in_what_it_differs(tmp_path, other, differs):
    stopped(tmp_path)
    (tmp_path / "mine.txt").write_text("of my own")
    told, work = Told(tmp_path), Work(seed=4)
    assert pack(over(SITES, work, other, told.loop)) == pack(over(SITES, Work(seed=4), other))
    assert work.done == [0, 1, 2, 3, 4]
    assert told.said == [
        f"what was kept in {tmp_path} is of another run, which differs in {differs}; all is computed anew"
    ]
    assert len(list(tmp_path.glob("unfinished-*"))) == 1
    assert (tmp_path / "mine.txt").exists()


def test_other_versions_of_libraries_begin_anew(tmp_path, monkeypatch):
    stopped(tmp_path)
    monkeypatch.setattr("geometry.results.over.versions", lambda: {"numpy": "9"})
    told, work = Told(tmp_path), Work()
    over(SITES, work, ANALYSIS, told.loop)
    assert work.done == [0, 1, 2, 3, 4]
    assert "differs in versions" in told.said[0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"parameters": 3}', "\0"])
def test_what_is_kept_beside_a_damaged_description_is_dropped(tmp_path, content):
    stopped(tmp_path)
    (described,) = tmp_path.glob("unfinished-*/analysis.json")
    described.write_text(content)
    told, work = Told(tmp_path), Work()
    over(SITES, work, replace(ANALYSIS, name="product"), told.loop)
    assert len(work.done) == 5
    assert told.said[0].endswith("; all is computed anew")


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-9], lambda b: b[:99] + b"x" + b[100:], lambda b: b"junk"]
)
def test_a_damaged_kept_site_is_computed_again(tmp_path, damage):
    stopped(tmp_path)
    (kept,) = tmp_path.glob("unfinished-*/*.1.*.npz")
    kept.write_bytes(damage(kept.read_bytes()))
    work = Work()
    assert pack(over(SITES, work, ANALYSIS, Told(tmp_path).loop)) == pack(over(SITES, Work(), ANALYSIS))
    assert work.done == [1, 3, 4]


def test_a_kept_site_of_types_that_are_not_named_is_computed_again(tmp_path):
    analysis, done = replace(ANALYSIS, types=(Value,)), []

    def unit(hook):
        done.append(hook.layer)
        return Value(hook.layer, np.full(2, np.nan))

    over(SITES, unit, analysis, Told(tmp_path).loop)
    found = over(SITES, unit, analysis, Told(tmp_path).loop)
    assert (len(done), [type(one) for one in found]) == (5, [Value] * 5)
    over(SITES, unit, ANALYSIS, Told(tmp_path).loop)
    assert len(done) == 10


def test_several_loops_of_one_analysis_keep_side_by_side(tmp_path):
    parts = [replace(ANALYSIS, part=name) for name in ("", "first-", "first-second-")]
    for number, part in enumerate(parts):
        over(SITES[:2], Work(seed=number), part, Told(tmp_path).loop)
    for number, part in enumerate(parts):
        told, work = Told(tmp_path), Work(seed=number)
        assert pack(over(SITES[:3], work, part, told.loop)) == pack(over(SITES[:3], Work(seed=number), part))
        assert (work.done, told.said) == ([2], [f"2 finished before and kept in {tmp_path} are not computed again"])


def test_forget_removes_what_loops_have_kept_and_nothing_else(tmp_path):
    folder = tmp_path / "results"
    stopped(folder)
    (kept,) = folder.glob("unfinished-*")
    (kept / f".{'0' * 16}.tmp").write_text("of a writer that was killed")
    others = ["table.csv", "unfinished-mine/a.npz", "unfinished-0123456789abcdef.txt", "sub/b.npz"]
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of my own")
    elsewhere = tmp_path / "elsewhere"
    stopped(elsewhere)
    (folder / f"unfinished-{'a' * 16}").symlink_to(next(elsewhere.glob("unfinished-*")))
    kept_there = names_below(elsewhere)
    forget(folder)
    assert not kept.exists()
    assert set(others) <= set(names_below(folder))
    assert names_below(elsewhere) == kept_there


def test_a_file_of_ones_own_among_kept_sites_stays(tmp_path):
    stopped(tmp_path)
    (kept,) = tmp_path.glob("unfinished-*")
    (kept / "notes.txt").write_text("of my own")
    forget(tmp_path)
    assert names_below(tmp_path) == [f"{kept.name}/notes.txt"]


def test_a_folder_that_holds_nothing_else_goes_too_and_one_that_is_not_there_is_no_matter(tmp_path):
    stopped(tmp_path / "a")
    forget(tmp_path / "a")
    forget(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused_at_the_first_site_leaves_nothing(tmp_path):
    with pytest.raises(InputError):
        over(SITES, Work(stop_at=0, stop=InputError("too many components")), ANALYSIS, Told(tmp_path / "a").loop)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_takes_no_file_is_told(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(NotAvailableError, match="cannot make the folder"):
        over(SITES, Work(), ANALYSIS, Told(tmp_path / "a").loop)


def test_numpy_s_numbers_are_parameters_like_python_s(tmp_path):
    given = {"seed": np.int64(3), "k": np.int32(2), "where": "is_last"}
    stopped(tmp_path, analysis=replace(ANALYSIS, parameters=given))
    work = Work()
    over(SITES, work, ANALYSIS, Told(tmp_path).loop)
    assert work.done == [3, 4]
    (described,) = tmp_path.glob("unfinished-*/analysis.json")
    assert json.loads(described.read_text())["parameters"] == dict(ANALYSIS.parameters)


@pytest.mark.parametrize("many", [False, True])
def test_products_run_on_one_thread_unless_many_pay(many):
    def threads(_):
        return max(one["num_threads"] for one in threadpool_info())

    found = over(SITES[:2], threads, replace(ANALYSIS, many_threads=many))
    assert found == ([threads(None)] * 2 if many else [1, 1])
