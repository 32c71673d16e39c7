"""A library's version is the installed one, and its file is read once."""

import importlib.metadata

import pytest

from cache.versions import version_of, versions_of


def test_it_is_what_is_installed_and_read_once(monkeypatch):
    assert version_of("numpy") == pytest.importorskip("numpy").__version__
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"another {name}")
    assert versions_of(["numpy", "pytest-timeout"]) == {
        "numpy": version_of("numpy"),
        "pytest-timeout": "another pytest-timeout",
    }
    version_of.cache_clear()


def test_a_library_that_is_not_there_has_none():
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        version_of("no-such-library")
