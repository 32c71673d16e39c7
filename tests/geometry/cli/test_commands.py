"""The command line as a user meets it: exit codes, one-line errors, resuming, interrupting, machine-readable output."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from cache import ActivationStore, load_dataset, plan_recording, record
from geometry.cli import main
from tests.fork_server import server as fork_server

pytestmark = pytest.mark.usefixtures("no_child")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in a folder of its own; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["geometry"])

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def store_file(gpt2, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.h5"
    plan = plan_recording(gpt2, load_dataset("digits,months"), batch_tokens=200)
    record(gpt2, plan, path)
    return path


def spoilt(path, folder, *, at, value=b"\xff"):
    copy = folder / "spoilt.h5"
    content = bytearray(path.read_bytes())
    content[at] ^= value[0]
    copy.write_bytes(content)
    return copy


def test_version_and_help(run):
    assert run("--version")[:2] == (0, "geometry 0.1.0\n")
    code, out, _ = run("--help")
    assert code == 0
    assert "Record activations" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cache"], 2, "error: Missing option '--model'; see geometry cache --help"),
        (["nonsense"], 2, "error: No such command 'nonsense'; see geometry --help"),
        (["cache", "--model", "M", "--tempaltes", "3"], 2, "error: No such option: --tempaltes"),
        (["prompts", "--templates", "x"], 2, "error: Invalid value for '--templates'"),
        (["prompts", "--templates", "0"], 2, "error: templates must be 1 or more; got 0"),
        (["prompts", "--length", "four"], 2, "error: --length takes whole numbers such as 3,4; got 'four'"),
        (["prompts", "--length", "40"], 2, "error: "),
        (["prompts", "--frame", "quotes"], 2, "error: no frame 'quotes'; known are list, lines, quote"),
        (["prompts", "--kind", "rising"], 2, "error: no kind 'rising'; known are increasing"),
        (["prompts", "--dataset", "digit"], 2, "error: no family 'digit'; known are digits"),
        (["prompts", "--dataset", "nothing.jsonl"], 3, "error: no prompt file 'nothing.jsonl'"),
        (["prompts", "--dataset", "family:nothing.txt"], 3, "error: no family file 'nothing.txt'"),
        (["prompts", "--out", "prompts.csv"], 2, "error: prompts are saved as .jsonl; got 'prompts.csv'"),
        (["cache", "--model", "./nothing"], 3, "error: no model folder './nothing'"),
        (["cache", "--model", "a b"], 2, "error: 'a b' cannot be a model's name"),
        (["cache", "--model", "nothing.gguf"], 3, "error: no GGUF file 'nothing.gguf'"),
        (["info", "nothing.h5"], 3, "error: 'nothing.h5' is not there; give an .h5 file made by geometry cache"),
        (["verify", "."], 3, "error: '.' is a folder; give an .h5 file"),
        (["pca", "nothing.h5"], 3, "error: 'nothing.h5' is not there"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code(run, arguments, code, message):
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "geometry", "info", "nothing.h5", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NotAvailableError: 'nothing.h5' is not there" in done.stderr


def test_cache_needs_no_argument_but_the_model(run, model_folders, tmp_path):
    code, out, err = run("cache", "--model", model_folders["gpt2"])
    assert (code, out) == (0, "")
    assert "105 prompts, " in err
    assert "10 sites -> activations/tiny-gpt2.h5" in err
    assert "next: geometry info activations/tiny-gpt2.h5" in err
    with ActivationStore.open(tmp_path / "activations" / "tiny-gpt2.h5") as store:
        assert store.prompts["family"].value_counts().to_dict() == {"months": 40, "numwords": 35, "digits": 30}
        assert set(store.prompts["frame"]) == {"quote", "list"}
        assert {hook.kind for hook in store.hooks} == {"resid_pre", "resid_post", "z", "mlp_out"}
    code, _, err = run("cache", "--model", model_folders["gpt2"])
    assert code == 0
    assert "is complete: nothing to do" in err


def test_quiet_says_nothing(run, model_folders):
    arguments = ["cache", "--model", model_folders["gpt2"], "--dataset", "digits", "--templates", 1, "--quiet"]
    assert run(*arguments) == (0, "", "")


def test_another_configuration_exits_5_naming_the_fields(run, model_folders):
    base = ["cache", "--model", model_folders["gpt2"], "--dataset", "digits", "--out", "a.h5"]
    assert run(*base)[0] == 0
    for change, field in {
        ("--no-bos",): "bos (True, now False)",
        ("--positions", "last"): "positions (all, now last)",
        ("--dtype", "float16"): "storage dtype (float32, now float16)",
        ("--sites", "resid"): "hooks",
        ("--batch-tokens", "100"): "block plan",
        ("--seed", "1"): "template seed (0, now 1)",
        ("--templates", "3"): "prompt texts",
        ("--processing", "compatibility"): "model weights, model processing (none, now compatibility)",
    }.items():
        code, _, err = run(*base, *change)
        assert code == 5
        assert f"another {field}" in err or f", {field}" in err
    assert run(*base)[0] == 0


def test_dropped_prompts_are_named_and_none_left_exits_2(run, model_folders, tmp_path):
    (tmp_path / "long.txt").write_text("unheard\nof\nmembers\nhere\nbeing\nsplit\n")
    (tmp_path / "mixed.txt").write_text("one\ntwo\nthree\nfour\nfive\nunheardof\n")
    model = ["--model", model_folders["gpt2"]]
    code, _, err = run("cache", *model, "--dataset", "family:long.txt")
    assert code == 2
    assert "error: no prompt is left: all" in err
    code, _, err = run("cache", *model, "--dataset", "family:mixed.txt", "--out", "m.h5")
    assert code == 0
    assert "dropped 4 prompts of mixed in frame quote: answer 'unheardof' is" in err


def test_running_text_is_recorded_beside_families_and_told(run, model_folders, tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(["one two three four"] * 3), encoding="utf-8")
    command = ["cache", "--model", model_folders["gpt2"], "--sites", "resid", "--out", "a.h5"]
    command += ["--dataset", "text:a.txt,digits", "--window", 5]
    code, _, err = run(*command)
    assert code == 0, err
    assert "text: 8 tokens of 1 document, in 2 windows of at most 5 tokens" in err
    assert "left out as repeated: 1" in err
    code, out, err = run("info", "a.h5", "--json")
    assert json.loads(out)["families"] == {"digits": 30, "text": 2}
    assert "1 prompts: 1 text" in run("prompts", "--dataset", "text:a.txt")[2]
    code, _, err = run(*command[:-1], 5, "--max-tokens", 1, "--overwrite")
    assert (code, "max_tokens must leave a window" in err) == (2, True)
    code, _, err = run(*command[:-1], 65, "--overwrite")
    assert (code, "takes 64 tokens; got windows of 65" in err) == (2, True)


def test_numbers_exit_8(run, model_folders, tmp_path, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    hf_model = AutoModelForCausalLM.from_pretrained(model_folders["gpt2"])
    with torch.no_grad():
        hf_model.transformer.wte.weight[tokenizer.convert_tokens_to_ids("3")] = 1e5
    hf_model.save_pretrained(tmp_path / "large")
    tokenizer.save_pretrained(tmp_path / "large")
    code, _, err = run("cache", "--model", "./large", "--dataset", "digits", "--dtype", "float16", "--out", "a.h5")
    assert code == 8
    assert "error: blocks.0.hook_resid_pre is " in err
    assert "more than float16 can hold (65504)" in err


def test_a_full_disk_exits_7(run, model_folders, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    code, _, err = run("cache", "--model", model_folders["gpt2"])
    assert code == 7
    assert "need " in err
    assert "have 10" in err


def test_a_locked_store_exits_6(run, model_folders, tmp_path):
    from cache.sealed.lock import writer_lock

    with writer_lock(tmp_path / "a.h5"):
        code, _, err = run("cache", "--model", model_folders["gpt2"], "--out", "a.h5")
    assert code == 6
    assert f"error: a.h5 is being written by process {os.getpid()} on " in err


def test_info_and_its_json_agree(run, store_file):
    code, out, _ = run("info", store_file)
    assert code == 0
    code, text, _ = run("info", store_file, "--json")
    facts = json.loads(text)
    assert facts["complete"] is True
    assert facts["families"] == {"digits": 30, "months": 40}
    layers = [0, 1, 2]
    assert facts["sites"] == {"resid_pre": [0], "z": layers, "mlp_out": layers, "resid_post": layers}
    assert "z 0-2" in out
    assert facts["bytes"] == store_file.stat().st_size
    assert facts["rows"] == facts["rows planned"]
    for name in facts:
        assert f"{name} " in out
    assert facts["fingerprint"] in out


def test_verify_agrees_with_a_sound_store_and_names_what_is_damaged(run, store_file, tmp_path):
    code, out, _ = run("verify", store_file)
    assert code == 0
    assert "all checksums agree" in out
    assert "everything but activations" in run("verify", store_file, "--quick")[1]
    import h5py

    with h5py.File(store_file) as file:
        at = file["activations/blocks.2.attn.hook_z"].id.get_offset() + 1000
    damaged = spoilt(store_file, tmp_path, at=at)
    code, out, err = run("verify", damaged)
    assert code == 4
    assert out.startswith("damaged: activations/blocks.2.attn.hook_z, block ")
    assert err == f"error: {damaged} is damaged in 1 place; record it anew with --overwrite\n"
    assert run("verify", damaged, "--quick")[0] == 0


def test_damage_is_told_by_whichever_command_meets_it_and_exits_4(run, store_file, tmp_path):
    import h5py

    with h5py.File(store_file) as file:
        last, text, state = (
            file[name].id.get_offset() for name in ("activations/blocks.2.hook_resid_post", "prompts/text", "log/state")
        )
    damaged = spoilt(store_file, tmp_path, at=last)
    code, _, err = run("pca", damaged, "--out", "out")
    assert code == 4
    assert err.endswith("is not what was written; geometry verify lists all damage\n")
    assert f"error: {damaged} is damaged: block " in err
    assert run("info", damaged)[0] == 0
    damaged = spoilt(store_file, tmp_path, at=text)
    told = f"error: {damaged} is damaged outside its activations (in its labels or metadata); "
    told += "copy it again or record it anew with --overwrite\n"
    for command in ("info", "verify", "pca"):
        code, _, err = run(command, damaged)
        assert (code, err) == (4, told)
    damaged = spoilt(store_file, tmp_path, at=state)
    for command in ("info", "pca"):
        code, _, err = run(command, damaged)
        assert code == 4
        assert f"error: {damaged} has a damaged log; the geometry cache command that made it mends that\n" in err
    code, out, err = run("verify", damaged)
    assert code == 4
    assert out == "damaged: log, block 0\n"
    assert err == f"error: {damaged} is damaged in 1 place; the command that made it mends that\n"


def test_files_that_are_no_store_exit_4(run, store_file, tmp_path):
    import h5py

    (tmp_path / "text.h5").write_text("nothing")
    (tmp_path / "short.h5").write_bytes(store_file.read_bytes()[:5000])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1.0]
    for name, message in {
        "text.h5": "text.h5 is not an HDF5 file",
        "short.h5": "short.h5 is cut off: it has 5,000 of",
        "other.h5": "is HDF5 but not a file that this geometry wrote",
    }.items():
        for command in ("info", "verify", "pca"):
            code, _, err = run(command, name)
            assert code == 4, (command, name, err)
            assert err.startswith("error: ")
            assert err.count("\n") == 1
            if command == "info":
                assert message in err


def test_prompts_are_printed_saved_and_read_back(run, tmp_path):
    code, out, err = run("prompts", "--dataset", "digits,control:1", "--frame", "quote")
    assert code == 0
    assert 'done in "0"' in out
    assert "24 digits" in err
    lines = [json.loads(line) for line in run("prompts", "--dataset", "digits", "--json")[1].splitlines()]
    assert lines[0]["answer"] == "4"
    code, _, err = run("prompts", "--dataset", "digits", "--out", "p.jsonl")
    assert code == 0
    assert "30 prompts -> p.jsonl" in err
    assert load_dataset(str(tmp_path / "p.jsonl")) == load_dataset("digits")


def test_the_task_table_is_printed_and_saved(run, model_folders, tmp_path):
    arguments = ["prompts", "--model", model_folders["llama"], "--dataset", "digits", "--templates", 1]
    code, out, _ = run(*arguments, "--out", "t/table.csv")
    assert code == 0
    assert "task table" in out
    table = pd.read_csv(tmp_path / "t" / "table.csv")
    assert table["frame"].tolist() == ["quote", "list"]
    assert {"accuracy", "ci_low", "ci_high", "n_members", "n_dropped", "dropped_why"} <= set(table.columns)
    assert [row["frame"] for row in json.loads(run(*arguments, "--json")[1])] == ["quote", "list"]


def test_models_lists_what_is_here_and_how_to_get_the_rest(run):
    code, out, err = run("models")
    assert code == 0
    assert "smollm2-135m" in out
    assert "gpt2-small" in out or "gpt2" in out
    assert "Hub" in err
    content = json.loads(run("models", "--json")[1])
    assert content["hub_reachable"] is False
    assert content["models"][0]["name"] == "smollm2-135m"


def recorded_rows(path):
    if not path.exists():
        return 0
    with ActivationStore.open(path) as store:
        return len(store.rows)


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "code"), [SIGNALS[0], pytest.param(*SIGNALS[1], marks=pytest.mark.slow)])
def test_a_signal_finishes_the_block_and_the_printed_command_goes_on(run, model_folders, tmp_path, number, code):
    (tmp_path / "p.txt").write_text("\n".join(f"1,2,3,{i % 10}" for i in range(100)))
    command = ["cache", "--model", str(model_folders["gpt2"]), "--dataset", "p.txt", "--out", "a.h5"]
    server = fork_server(model_folders["gpt2"])
    process = server.start("command", tmp_path, argv=[*command, "--batch-tokens", "8"])
    until = time.monotonic() + 120
    while not recorded_rows(tmp_path / "a.h5") and time.monotonic() < until:
        time.sleep(0.01)
    ended = server.result(process, after=0, number=number)
    err = ended["err"]
    assert ended["code"] == code, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("stopped after ")
    program, *printed = shlex.split(last.partition("go on with: ")[2])
    assert (program, printed[:2]) == ("geometry", ["cache", "--model"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "p.txt"]
    n_recorded = recorded_rows(tmp_path / "a.h5")
    assert n_recorded > 0
    assert run(*printed)[0] == 0
    with ActivationStore.open(tmp_path / "a.h5") as store:
        assert store.complete
        assert len(store.rows) > n_recorded
