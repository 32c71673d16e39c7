"""Data sets by name: families, controls and files, as one comma-separated string."""

from dataclasses import replace

from cache.errors import InputError
from cache.families.family import FAMILIES, parse_families
from cache.prompts.files import SUFFIXES, read_prompts
from cache.prompts.prompt import Prompts
from cache.prompts.sequences import SequenceDesign, make_prompts


def load_dataset(names: str, design: SequenceDesign | None = None) -> Prompts:
    """Prompts from families and files.

    Args:
        names: comma-separated: families (`digits`), controls (`control:0-19`), a family or a control of one's own
            (`family:planets.txt`, `control:birds.txt`), and files of prompts (`mine.jsonl`, `.csv`, `.txt`).
        design: how families are shown; its own families are replaced by those named. Files of prompts are
            taken as they are.

    Raises:
        InputError: a name is unknown, or a file cannot be read.
        NotAvailableError: a file is not there.

    Example:
        >>> prompts = load_dataset("digits,months")
        >>> prompts[0].text, prompts[0].answer
        ('Snow done in "0". Card done in "1". Mask done in "2". Bus done in "3". Pot done in "', '4')
    """
    parts = [part.strip() for part in names.split(",") if part.strip()]
    files = [part for part in parts if part.lower().endswith(SUFFIXES) and not part.startswith(("family:", "control:"))]
    families = [part for part in parts if part not in files]
    if not parts:
        raise InputError("no data set given; try digits,numwords,months or a file of prompts")
    design = design or SequenceDesign((FAMILIES["digits"],))
    made = [make_prompts(replace(design, families=parse_families(families)))] if families else []
    sets = made + [read_prompts(path) for path in files]
    if len(sets) == 1:
        return sets[0]
    return Prompts(tuple(prompt for prompts in sets for prompt in prompts), design.seed)
