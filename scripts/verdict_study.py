"""Verdicts where the answer is known beforehand: lists that have nothing in common, and one list in two spellings.

python scripts/verdict_study.py activations/verdicts figures/verdicts [--quick]

The lists are in scripts/families; every member is one token of SmolLM2 in the frames quote, list and lines.

unrelated   66 pairs of 12 lists of 11 members that share no word. Wanted: none is called shared.
  greek, cyrillic           letters of two alphabets, in their order
  colours, units            in order of wavelength, of length
  nouns_1, nouns_2          nouns in random order
  frequency_1, frequency_2  alike at each place in frequency (rank among the tokenizer's tokens), in random order
  length_1, length_2        alike at each place in characters (3 to 13), in random order
  letter_1, letter_2        alike at each place in first letter, in random order
numbers     digits, number words (also capitalised: to Eight, Nine is two tokens), Roman numbers (also lower-case)
spellings   months and their abbreviations; letters A-K, L-V and their lower case; Greek letters and their names;
            nouns, things, verbs and adjectives with and without a capital, technical words in capitals, nouns and their
            plurals, verbs and their past and -ing forms: lists in no order. Wanted: all pairs shared, the ordered ones
            by an index (order matters), the others by their words.

Beside the increasing lists of numbers and spellings stand sixty reorderings (`reordered:0-59`, in two quotes): four
ordered pairs among twelve can then have q at .05.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from cache import ActivationStore, LoadedModel, Prompts, load_dataset, load_model, plan_recording, record
from cache.families.family import FAMILIES
from cache.prompts.sequences import SequenceDesign
from geometry import between_pairs, write_report
from geometry.between.summary import summary

LISTS = Path(__file__).parent / "families"
CONTROLS = "control:0-19"


@dataclass(frozen=True)
class Study:
    """Families that are recorded together, and what is known of their pairs.

    Attributes:
        name: of the store.
        families: those recorded in increasing order, beside the controls.
        reordered: those recorded in other orders too.
        pairs: pairs to compare and what they are: `unrelated`, `ordered` or `unordered`.
    """

    name: str
    families: tuple[str, ...]
    reordered: tuple[str, ...]
    pairs: dict[tuple[str, str], str]


UNRELATED = ("greek", "cyrillic", "colours", "units", "nouns_1", "nouns_2", "frequency_1", "frequency_2")
UNRELATED += ("length_1", "length_2", "letter_1", "letter_2")
NUMBERS = ("digits", "numwords", "roman", "roman_lower")
ORDERED = (
    ("months", "months_short"),
    ("letters", "letters_lower"),
    ("late_letters", "late_letters_lower"),
    ("greek_letters", "greek_names"),
)
UNORDERED = (
    ("nouns_lower", "nouns_capital"),
    ("things_lower", "things_capital"),
    ("verbs_lower", "verbs_capital"),
    ("adjectives_lower", "adjectives_capital"),
    ("computing_lower", "computing_upper"),
    ("singular", "plural"),
    ("present", "past"),
    ("infinitive", "gerund"),
)
SPELLINGS = tuple(family for pair in (*ORDERED, *UNORDERED) for family in pair)
STUDIES = (
    Study("unrelated", UNRELATED, (), dict.fromkeys(combinations(UNRELATED, 2), "unrelated")),
    Study(
        "numbers",
        (*NUMBERS, "numwords_capital"),
        NUMBERS,
        dict.fromkeys(combinations((*NUMBERS, "numwords_capital"), 2), "ordered"),
    ),
    Study("spellings", SPELLINGS, SPELLINGS, dict.fromkeys(ORDERED, "ordered") | dict.fromkeys(UNORDERED, "unordered")),
)


def dataset(families: Sequence[str]) -> str:
    """The names that `load_dataset` takes: built-in families as they are, the others as files of this folder."""
    return ",".join(name if name in FAMILIES else f"family:{LISTS / name}.txt" for name in families)


def prompts_of(study: Study, controls: str, templates: int, orders: str) -> Prompts:
    """The increasing lists beside their controls, and the reordered ones in two templates of one frame."""
    design = SequenceDesign(
        (FAMILIES["digits"],), frames=("quote", "list"), lengths=(3,), starts=tuple(range(10)), templates=templates
    )
    increasing = load_dataset(f"{dataset(study.families)},{controls}", design)
    if not study.reordered or not orders:
        return increasing
    design = replace(design, frames=("quote",), kinds=(orders,), templates=2)
    return Prompts((*increasing, *load_dataset(dataset(study.reordered), design)), design.seed)


def recorded(study: Study, model: LoadedModel, folder: Path, arguments: argparse.Namespace) -> ActivationStore:
    """The study's store: recorded now, gone on with, or already there."""
    prompts = prompts_of(study, arguments.controls, arguments.templates, arguments.orders)
    started = time.perf_counter()
    plan = plan_recording(model, prompts, sites="resid", positions="last")
    store = record(model, plan, folder / f"{study.name}.h5")
    print(f"{study.name}: {len(prompts)} prompts recorded in {time.perf_counter() - started:.0f} s")
    return store


def judge(study: Study, store: ActivationStore, folder: Path) -> None:
    """Compare the study's pairs in increasing order; print their summary and count the verdicts."""
    started = time.perf_counter()
    result = between_pairs(store.view(), list(study.pairs), measures=("matched_cosine",))
    table = summary(result)
    table.insert(2, "pair_is", [study.pairs[pair] for pair in zip(table["a"], table["b"], strict=True)])
    write_report(result, {}, folder / study.name, {"summary": table})
    print(table.to_string(index=False, float_format="%.3g"))
    print(table.groupby("pair_is")["verdict"].value_counts().to_string())
    print(f"{len(table)} pairs compared in {time.perf_counter() - started:.0f} s -> {folder / study.name}\n")


def quick(study: Study) -> Study:
    """A few families and pairs of a study."""
    pairs = dict(list(study.pairs.items())[:3])
    families = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    return Study(study.name, families, tuple(f for f in families if f in study.reordered), pairs)


def main() -> None:
    """Record what is not there yet, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, help="folder of the stores")
    parser.add_argument("figures", type=Path, help="folder of the tables")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--controls", default=CONTROLS)
    parser.add_argument("--orders", default="reordered:0-59", help="kind of the reordered lists; '' for none")
    parser.add_argument("--templates", type=int, default=6, help="of the increasing lists")
    parser.add_argument("--quick", action="store_true", help="three pairs of each study, two templates, two orders")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.orders, arguments.templates = arguments.orders and "reordered:0-1", 2
    model = load_model(arguments.model)
    for study in STUDIES:
        chosen = quick(study) if arguments.quick else study
        with recorded(chosen, model, arguments.stores, arguments) as store:
            judge(chosen, store, arguments.figures)


if __name__ == "__main__":
    main()
