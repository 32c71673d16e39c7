"""What the program says of models that are read rightly, in part, or not at all."""

import json

import pytest

from cache import ActivationStore
from tests.cache.architectures import tiny_model
from tests.fork_server import server as fork_server


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    """Folders of models that are right, right in part, and read wrongly as a whole."""
    found = {}
    for name in ("gpt2", "granite", "cohere", "bert", "mixtral", "bloom"):
        found[name] = tmp_path_factory.mktemp("checked") / name
        tiny_model(name, len(tokenizer)).save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


@pytest.fixture(scope="module")
def run(model_folders, tmp_path_factory):
    server = fork_server(model_folders["gpt2"])
    place = tmp_path_factory.mktemp("place")
    return lambda *words: (server.command(place, *map(str, words)), place)


RECORDING = ("--dataset", "digits", "--frame", "list", "--starts", "1,2")


def test_what_was_found_is_printed_by_kind_of_site(folders, run):
    done, _ = run("models", "--check", folders["mixtral"])
    assert done["code"] == 0
    assert "the same logits wrapped and unwrapped" in done["out"]
    assert "3 of 3, blocks.0.mlp.hook_post: no output projection of the MLP reads it" in " ".join(
        done["out"].replace("│", " ").split()
    )
    listed, _ = run("models", "--check", folders["gpt2"], "--json")
    findings = {one["check"]: one for one in json.loads(listed["out"])["findings"]}
    assert {one["fault"] for one in findings.values()} == {""}
    assert findings["blocks.2.attn.hook_z"]["shape"] == [4, 8]
    assert findings["restart"]["difference"] < 1e-5


@pytest.mark.parametrize(("name", "check"), [("cohere", "logits"), ("bert", "causal")])
def test_a_model_that_is_read_wrongly_is_shown_and_refused(folders, run, name, check):
    shown, place = run("models", "--check", folders[name])
    refused, _ = run("cache", "--model", folders[name], *RECORDING, "--out", f"{name}.h5")
    for done in (shown, refused):
        line = done["err"].splitlines()[-1]
        assert done["code"] == 3
        assert line.startswith(f"error: {folders[name]} (type {name}) fails the check '{check}': ")
    assert "the same logits wrapped and unwrapped" in shown["out"]
    assert not (place / f"{name}.h5").exists()


def test_the_sites_recorded_by_default_are_those_that_are_shown(folders, run):
    done, place = run("cache", "--model", folders["granite"], *RECORDING, "--out", "granite.h5")
    assert done["code"] == 0, done["err"]
    assert f"left out: mlp_out of all layers (geometry models --check {folders['granite']} says why)" in done["err"]
    with ActivationStore.open(place / "granite.h5") as store:
        assert {hook.kind for hook in store.hooks} == {"resid_pre", "resid_post", "z"}


def test_a_site_that_is_named_and_not_shown_is_refused_before_a_file_is_made(folders, run):
    done, place = run("cache", "--model", folders["granite"], *RECORDING, "--sites", "resid,mlp", "--out", "named.h5")
    told = f"error: {folders['granite']} (type granite) shows no blocks.0.hook_mlp_out: it does not fire"
    assert (done["code"], done["err"].splitlines()[-1]) == (3, told)
    assert not (place / "named.h5").exists()


def test_what_needs_a_restart_says_that_a_model_cannot_be_restarted(folders, run):
    dataset = ("--dataset", "digits,numwords", "--frame", "list,lines", "--templates", "2")
    done, _ = run("cache", "--model", folders["bloom"], *dataset, "--sites", "resid", "--out", "bloom.h5")
    assert done["code"] == 0, done["err"]
    swept, _ = run("sweep", "bloom.h5", "--from", "digits", "--to", "numwords", "--layers", "1", "--out", "swept")
    assert swept["code"] == 3
    assert "(type bloom) fails the check 'restart': " in swept["err"].splitlines()[-1]
