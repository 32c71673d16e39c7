"""A store of several families, in which controls are labelled too."""

import pytest

from tests.probes.sweeps import small_store


@pytest.fixture(scope="session")
def small(gpt2, tmp_path_factory):
    with small_store(gpt2, tmp_path_factory.mktemp("extraction")) as store:
        yield store
