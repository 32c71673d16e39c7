"""Errors: the exit codes that the documentation promises."""

import pytest

from cache import errors
from cache.models.hooks import Hook

EXIT_CODES = {
    "InputError": 2,
    "NotAvailableError": 3,
    "CorruptFileError": 4,
    "FingerprintError": 5,
    "LockedError": 6,
    "NoSpaceError": 7,
    "NumbersError": 8,
    "StoppedError": 130,
}


def test_every_failure_has_the_exit_code_documented_for_it():
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.GeometryError)]
    assert {e.__name__: e.exit_code for e in ours} == {"GeometryError": 1, **EXIT_CODES}


def test_bad_input_is_a_value_error_to_callers_who_do_not_know_ours():
    with pytest.raises(ValueError, match="no site kind 'residual'"):
        Hook("residual", 0)
