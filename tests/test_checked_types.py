"""Types are checked while tests run: else a wrong annotation would stand for years."""

import pytest
import torch

from cache import Hook
from geometry.cli.console.options import file_stem
from geometry.cli.record.prompts import _show_prompts
from probes.edits.edit import addition
from probes.transfer.steps import matched
from tests.probes.readings import random_direction


def test_axes_of_one_name_are_of_one_length():
    assert matched(torch.ones(2, 3), torch.ones(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError, match="own"):
        matched(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(TypeError, match="step"):
        matched(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3))


def test_what_has_no_axes_is_checked_as_well_and_an_int_will_do_for_a_float(gpt2):
    with pytest.raises(TypeError):
        file_stem(3)
    assert addition(random_direction(gpt2, Hook("resid_post", 1)), 2) is not None


def test_a_type_that_only_mypy_can_read_leaves_the_other_parameters_checked():
    with pytest.raises(TypeError, match="quiet"):
        _show_prompts(None, None, as_json=True, quiet="no")
