"""SAEs by sae-lens's names: from the Hugging Face cache without a network, and told at once where they are not."""

import importlib.util
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from cache.errors import InputError, NotAvailableError
from cache.models.hooks import Hook
from probes.sae import sources
from probes.sae.load import load_sae
from tests.probes.sae.saved import perfect_tensors, random_tensors, save

JB = "gpt2-small-res-jb"
SIXTH = "blocks.6.hook_resid_pre"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def in_cache(cache, repo, folder, tensors=None, **config):
    """Put an SAE where the Hub's client would."""
    place = cache / f"models--{repo.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    return save(place / "snapshots" / ("0" * 40) / folder, tensors, **config)


def test_a_release_in_the_cache_is_loaded_by_its_name(hub_cache):
    site = Hook("resid_pre", 6)
    in_cache(hub_cache, "jbloom/GPT2-Small-SAEs-Reformatted", SIXTH, site=site, metadata={"model_name": "gpt2-small"})
    sae = load_sae(JB, SIXTH)
    assert (sae.hook, sae.origin.name, sae.origin.model) == (site, f"{JB} {SIXTH}", "gpt2-small")


def test_what_the_table_says_of_a_release_counts(hub_cache):
    former = {"sae_lens_version": None}
    in_cache(hub_cache, "jbloom/GPT2-Small-SAEs-Reformatted", SIXTH, metadata=former)
    assert load_sae(JB, SIXTH).origin.centred  # the table's word, which a configuration before version 6 takes up


def test_a_repository_may_be_named_itself(hub_cache):
    in_cache(hub_cache, "somebody/saes", "deep/fifth")
    assert len(load_sae("somebody/saes", "deep/fifth").directions) == 66


def test_the_scale_that_the_table_knows_is_folded_in(hub_cache, monkeypatch):
    entry = sources._Entry("a/b", "sae_lens", {"one": "one"}, {"one": 0.5}, {})
    monkeypatch.setattr(sources, "_entry", lambda _: entry)
    tensors = random_tensors()
    in_cache(hub_cache, "a/b", "one", tensors, normalize_activations="expected_average_only_in")
    sae = load_sae("a-b", "one")
    torch.testing.assert_close(sae.encoder, 0.5 * tensors["W_enc"])
    torch.testing.assert_close(sae.directions, 2 * tensors["W_dec"])


@pytest.mark.parametrize(
    ("release", "sae_id", "said"),
    [
        (
            JB,
            "blocks.60.hook_resid_pre",
            f"{JB} has no SAE 'blocks.60.hook_resid_pre'; near it are blocks.6.hook_resid_pre",
        ),
        (JB, None, f"{JB} has no SAE None; near it are blocks.0.hook_resid_pre, blocks.1.hook_resid_pre, "),
        ("gpt2-small-rez-jb", SIXTH, "no folder and no release 'gpt2-small-rez-jb'; near it are gpt2-small-res-jb"),
    ],
)
def test_what_is_no_release_is_told_with_near_names(release, sae_id, said):
    with pytest.raises(InputError, match=rf"^{said}"):
        load_sae(release, sae_id)


@pytest.mark.parametrize(("path", "sae_id"), [("somebody/saes", None), ("saes/demo/seed-0", None), ("a/b/c", "one")])
def test_what_may_be_a_folder_and_is_not_there_is_told_so(path, sae_id):
    with pytest.raises(NotAvailableError, match=rf"^no folder '{path}' is here; of a repository on the Hub"):
        load_sae(path, sae_id)


def test_a_release_of_pickled_weights_is_refused():
    with pytest.raises(InputError, match=r"^gpt2-small-hook-z-kk is kept as pickled weights, which are not loaded$"):
        load_sae("gpt2-small-hook-z-kk", "blocks.0.hook_z")


def test_without_the_hub_a_release_is_told_at_once(hub_cache, monkeypatch):
    monkeypatch.setattr(sources, "_reachable", lambda: False)
    started = time.monotonic()
    with pytest.raises(
        NotAvailableError, match=rf"^{JB} {SIXTH} \(jbloom/GPT2-Small-SAEs-Reformatted\) is not in the lo"
    ):
        load_sae(JB, SIXTH)
    with pytest.raises(
        NotAvailableError, match=r"is in a format that sae-lens converts with the Hub in reach, which it is"
    ):
        load_sae("gemma-scope-2b-pt-res", "layer_0/width_16k/average_l0_105")
    assert time.monotonic() - started < 5


def test_a_release_in_another_format_is_what_sae_lens_makes_of_it(monkeypatch):
    tensors = perfect_tensors()
    config = {"d_in": 33, "d_sae": 66, "architecture": "standard", "metadata": {"sae_lens_version": "6.54.12"}}
    made = SimpleNamespace(cfg=SimpleNamespace(to_dict=lambda: config), state_dict=lambda: tensors)
    asked = SimpleNamespace(from_pretrained=lambda *given, device: made)
    stands_in = SimpleNamespace(SAE=asked, __spec__=importlib.util.find_spec("sae_lens"))
    monkeypatch.setitem(sys.modules, "sae_lens", stands_in)
    monkeypatch.setattr(sources, "_reachable", lambda: True)
    sae = load_sae("gemma-scope-2b-pt-res", "layer_0/width_16k/average_l0_105")
    assert torch.equal(sae.directions, tensors["W_dec"])
    assert sae.origin.name == "gemma-scope-2b-pt-res layer_0/width_16k/average_l0_105"


def test_without_sae_lens_a_release_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        NotAvailableError, match=r"names of releases are sae-lens's: pip install 'representation-geometry"
    ):
        load_sae(JB, SIXTH)


def test_nothing_of_this_imports_sae_lens(tmp_path):
    save(tmp_path / "one")
    code = (
        "import sys, cache, geometry, probes; assert 'torch' not in sys.modules\n"
        "from probes.sae.load import load_sae\n"
        f"load_sae({str(tmp_path / 'one')!r})\n"
        f"try: load_sae({JB!r}, 'no')\n"
        "except ValueError: pass\n"
        "assert 'sae_lens' not in sys.modules and 'transformer_lens' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
