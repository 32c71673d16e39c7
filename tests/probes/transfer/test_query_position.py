"""Last member or answer: a model that codes the last member, one that codes the answer, and a naive loop."""

import numpy as np
import pytest
import torch

from cache import ActivationStore, Hook, SequenceDesign, load_dataset, plan_recording
from cache.errors import FingerprintError, InputError
from cache.families.family import FAMILIES
from cache.prompts.prompt import Prompts
from geometry.results.over import Loop
from probes.transfer.query_position import last_or_answer
from tests.probes.planted_model import MEMBERS, planted_model, planted_prompts, planted_store, prompt
from tests.probes.readings import read, rewritten
from tests.recordings import recorded
from tests.rerecording import rerecorded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("last-or-answer")


@pytest.fixture(scope="module")
def model(tokenizer, folder):
    return planted_model(tokenizer, folder / "planted")


def three_kinds():
    """Increasing prompts, and decreasing and every second ones that end with the same members."""
    items = list(planted_prompts(("digits",), templates=3))
    for template in range(3):
        items += [prompt("digits", (m + 1, m), template, "decreasing", m - 1) for m in MEMBERS]
        items += [prompt("digits", (m - 2, m), template, "step:2", m + 2) for m in MEMBERS if m < 8]
    return Prompts(tuple(items))


@pytest.fixture(scope="module")
def store(model, folder):
    with planted_store(model, three_kinds(), folder / "last.h5") as store:
        yield store


def test_a_model_that_codes_the_last_member_is_read_so(store, model):
    result = last_or_answer(store.view(layers=1), model, n_contexts=2)
    table = result.table.set_index("kind")
    for kind in ("decreasing", "step:2"):
        line = table.loc[kind]
        assert (line["as_last"], line["as_answer"], line["unchanged"], line["donor_accuracy"]) == (1, 0, 0, 0)
        assert line["last_over_answer"] > 1
        assert (line["n_members"], line["n_templates"]) == (7, 2)
        assert line["as_last_ci_low"] == pytest.approx(0.59, abs=0.01)  # 7 of 7 members
    assert result.parameters["kinds"] == ["decreasing", "step:2"]
    assert result.values("as_last").tolist() == [[[1, 1]]]
    # last 4 to 8 with answer's index 2 to 6, and every third index
    assert table.loc["decreasing", "n_rows"] == 2 * 5 * 5


def test_a_model_that_codes_the_answer_is_read_so(model, folder):
    """The last tokens of decreasing prompts get what increasing prompts with the same answer have."""
    path = folder / "answer.h5"
    planted_store(model, three_kinds(), path).close()
    with ActivationStore.open(path) as store:
        rows, prompts = store.rows, store.prompts
        labels = [(prompts["kind"][p], prompts["template"][p], prompts["values"][p][-1]) for p in rows["prompt"]]
        last = rows["is_last"].tolist()
    where = {label: i for i, label in enumerate(labels) if last[i]}
    with rerecorded(path) as file:
        data = file["activations"]["blocks.1.hook_resid_post"]
        x = data[:]
        for (kind, template, m), i in where.items():
            if kind == "decreasing" and ("increasing", template, m - 2) in where:
                x[i] = data[where["increasing", template, m - 2]]
        data[:] = x
    with ActivationStore.open(path) as store:
        line = last_or_answer(store.view(layers=1), model, kinds=["decreasing"]).table.iloc[0]
    assert (line["as_last"], line["as_answer"]) == (0, 1)
    assert line["last_over_answer"] < -1


def test_the_figures_are_those_of_a_naive_loop(gpt2, folder):
    design = SequenceDesign(
        (FAMILIES["digits"],), ("quote", "list"), ("increasing", "decreasing"), (2,), tuple(range(1, 8)), templates=1
    )
    hook = Hook("resid_post", 1)
    plan = plan_recording(gpt2, load_dataset("digits", design), sites="resid_post", positions="last")
    with recorded(gpt2, plan, folder / "naive.h5") as store:
        line = last_or_answer(store.view(layers=1), gpt2, n_contexts=1).table.iloc[0]
        (context,) = last_or_answer(store.view(layers=1), gpt2, n_contexts=1).parameters["contexts"]["digits"]
        frame, other = context.split("|")[0], "list" if context.startswith("quote") else "quote"
        x = store.load(hook).double()
        code = {(p["frame"], p["kind"], p["values"][-1]): x[i] for i, (_, p) in enumerate(store.prompts.iterrows())}
        texts = {
            p["values"][-1]: p for _, p in store.prompts.iterrows() if (p["frame"], p["kind"]) == (frame, "increasing")
        }
    encode = gpt2.tokenizer.encode
    answers = {m: encode(p["text"] + p["answer"], add_special_tokens=False)[-1] for m, p in texts.items()}
    found = []
    for i, p in texts.items():
        tokens = torch.tensor([[gpt2.tokenizer.bos_token_id, *encode(p["text"], add_special_tokens=False)]])
        plain = read(gpt2, tokens, [])[1][0, -1]
        for last in texts:
            if last - 2 not in texts or (other, "decreasing", last) not in code or i in (last, last - 2):
                continue
            step = code[other, "decreasing", last] - code[other, "increasing", i]

            def change(output, step=step):
                output = output.clone()
                output[0, -1] += step.float()
                return output

            with rewritten(gpt2, hook, change):
                edited = read(gpt2, tokens, [])[1][0, -1]
            rise = edited - plain
            top = int(edited.argmax())
            found.append([float(rise[answers[last]] - rise[answers[last - 2]]), top == answers[last]])
    effects = np.array(found)
    assert line["n_rows"] == len(found) > 10
    assert line["last_over_answer"] == pytest.approx(effects[:, 0].mean(), abs=1e-4)
    assert line["as_last"] == pytest.approx(effects[:, 1].mean())


def test_layers_are_told_and_the_seed_draws_contexts(store, model):
    told = []
    result = last_or_answer(store.view(layers=1), model, n_contexts=1, loop=Loop(told.append))
    assert tuple(told) == result.hooks
    drawn = {
        tuple(last_or_answer(store.view(layers=1), model, n_contexts=1, seed=s).parameters["contexts"]["digits"])
        for s in range(6)
    }
    assert len(drawn) > 1


def test_what_cannot_be_told_apart_is_refused(store, model, loaded, folder):
    with pytest.raises(FingerprintError):
        last_or_answer(store.view(layers="spread"), loaded["gpt2"])
    with pytest.raises(InputError, match=r"such as decreasing and step:2; the store has increasing, .*, got wrap"):
        last_or_answer(store.view(layers="spread"), model, kinds=["wrap"])
    with (
        planted_store(model, planted_prompts(("digits",), templates=2), folder / "plain.h5") as plain,
        pytest.raises(InputError, match=r"such as decreasing and step:2; the store has increasing$"),
    ):
        last_or_answer(plain.view(layers="spread"), model)
    short = Prompts(tuple(p for p in three_kinds() if p.kind != "step:2" and p.values[-1] < 4))
    with (
        planted_store(model, short, folder / "short.h5") as few,
        pytest.raises(InputError, match=r"in no prompt do what follows the last member, the answer of decreasing and"),
    ):
        last_or_answer(few.view(layers="spread"), model)
