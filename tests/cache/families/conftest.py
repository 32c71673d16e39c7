"""The real model's tokenizer, for words that are to be one token of it."""

import pytest

from cache.errors import NotAvailableError


@pytest.fixture(scope="session")
def smollm2_tokenizer():
    from transformers import AutoTokenizer

    from cache.loading.gguf import convert_once, demo_gguf

    try:
        gguf = demo_gguf()
    except NotAvailableError as error:
        pytest.skip(str(error))
    return AutoTokenizer.from_pretrained(convert_once(gguf), local_files_only=True)
