"""Options that several commands share, each spelled and explained once."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cache.errors import InputError
from cache.models.hooks import parse_layers
from geometry.printable import printable

if TYPE_CHECKING:
    from cache.prompts.sequences import SequenceDesign

Dataset = Annotated[
    str,
    typer.Option(
        help="Families (digits numwords months days letters roman ordinals tens), controls (control:0-19 "
        "control:capitals:0-19 control:characters:0-19), relations (relation:plural; also gender capitals comparatives "
        "antonyms greater kinds sizes languages scripts), family:FILE or control:FILE for your own list, or files of "
        "prompts (.csv .tsv .jsonl .json .parquet .txt; by-line:FILE pairs by order), or text:FILE, running text "
        "(.txt, .jsonl..., or a folder of .txt) for geometry cache to cut into windows; comma-separated."
    ),
]
FrameNames = Annotated[
    str,
    typer.Option("--frame", help="list lines quote paren eq comma-space space done lost born; comma-separated."),
]
KindNames = Annotated[
    str,
    typer.Option(
        "--kind",
        help="increasing decreasing step:K repeated copy reordered:K (reordered:0-19) permuted shuffled-same-last "
        "random wrap mixed; comma-separated.",
    ),
]
Lengths = Annotated[str, typer.Option("--length", help="How many members are shown: 4, or several: 3,4.")]
Starts = Annotated[str, typer.Option("--starts", help="Ordinals of the first member shown: all, or 1,2,3.")]
Templates = Annotated[int, typer.Option("--templates", help="Draws of names and objects (frames without: 1).")]
Sample = Annotated[int | None, typer.Option("--sample", help="Keep that many pair keys, drawn with the seed.")]
Seed = Annotated[int, typer.Option("--seed", help="Seeds every draw; noted in what is written.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model", help="smollm2-135m, a Hub or TransformerLens name (gpt2-small), a folder, or a .gguf file."
    ),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a Hub model.")]
Processing = Annotated[
    str, typer.Option("--processing", help="none, or compatibility (TransformerLens's folding and centring).")
]
Device = Annotated[str, typer.Option("--device", help="auto cpu cuda mps.")]
Bos = Annotated[bool, typer.Option("--bos/--no-bos", help="Put the BOS token before every text.")]
BatchTokens = Annotated[int, typer.Option("--batch-tokens", help="Tokens a forward pass; more for a GPU.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Print every line and column; else layers in steps with the best, and the columns that the terminal "
        "(or COLUMNS) has room for. A pipe without COLUMNS gets all.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Site = Annotated[
    str,
    typer.Option(help="Kind of site: resid_post (with the embedding), mlp_out, z ...; or one: blocks.3.attn.hook_z."),
]
SAEId = Annotated[
    str | None, typer.Option("--sae-id", help="Of a release, which of its SAEs: blocks.6.hook_resid_pre.")
]
Where = Annotated[
    str | None,
    typer.Option(
        help="Rows, as a query over their columns: \"frame == 'list'\"; with in [...], not, .str.contains('...'). It "
        "narrows those of --rows; naming tokens' own columns (is_last, member, position ...) it chooses among all."
    ),
]
RowsOfPrompts = Annotated[
    str | None,
    typer.Option(
        "--rows",
        help="Rows of each prompt: members (tokens that end a shown member), last or all. Default: last (compare, "
        "demix, probe, cosines), members (the others).",
    ),
]
Components = Annotated[int, typer.Option(help="How many components.")]
Out = Annotated[Path | None, typer.Option(help="Folder for figures and tables; default figures/<file>-<command>.")]
Formats = Annotated[str, typer.Option("--format", help="Of figures: png svg pdf, comma-separated.")]
LayersShown = Annotated[
    str | None,
    typer.Option(
        "--layers-shown",
        help="Layers with a panel of their own: how many (evenly spread; of transfer and erase the best); which, such "
        "as 0,4-7,-1; or all, in a further figure. Default: 8 scatters, 6 layers of a table, 4 matrices.",
    ),
]
Colors = Annotated[
    str,
    typer.Option(
        "--color",
        help="Labels of the rows that colour the scatter, a picture each: family, frame, kind, template, shown, or a "
        "column of your own; comma-separated.",
    ),
]
FamilyNames = Annotated[
    str | None, typer.Option("--families", help="Families, comma-separated; default: all of the store but controls.")
]
Layers = Annotated[str, typer.Option("--layers", help="all, or layers and ranges: 0,4-7,-1.")]
SpreadLayers = Annotated[
    str, typer.Option("--layers", help="all, or layers and ranges: 8,14,20-24; default: eight, evenly spread.")
]

Number = TypeVar("Number", int, float)

_MOST_LAYERS = 1_000_000
_LONGEST_STEM = 150  # bytes; names have at most 255, suffixes and `.tmp` included


def sequence_design(
    *, frame: str, kind: str, length: str, starts: str, templates: int, sample: int | None, seed: int
) -> "SequenceDesign":
    """The design that these options describe; its families are filled in from the data set.

    Raises:
        InputError: an option is not what it should be.
    """
    from cache.families.family import FAMILIES
    from cache.prompts.sequences import SequenceDesign

    whole = "takes whole numbers such as 3,4"
    return SequenceDesign(
        families=(FAMILIES["digits"],),
        frames=_words(frame),
        kinds=_words(kind),
        lengths=tuple(dict.fromkeys(numbers(length, int, f"--length {whole}"))),
        starts=None if starts.strip() == "all" else tuple(numbers(starts, int, f"--starts {whole}")),
        templates=templates,
        sample=sample,
        seed=seed,
    )


def families_of(text: str | None) -> list[str] | None:
    """The families that `--families` names; None where it is not given.

    Raises:
        InputError: it is given and empty.
    """
    if text is None:
        return None
    names = list(_words(text))
    if not names:
        raise InputError("--families takes names such as digits,numwords; got none")
    return names


def layers_shown(text: str | None) -> int | str | None:
    """What `--layers-shown` names, as figures take it: how many, or a list of layers; None where it is not given.

    Raises:
        InputError: it is neither.
    """
    if text is None or text.strip() == "all":
        return text and "all"
    taken = f"--layers-shown takes a number from 1, layers such as 0,4-7,-1, or all; got {text!r}"
    if text.strip().isdecimal():
        if int(text) < 1:
            raise InputError(taken)
        return int(text)
    try:
        parse_layers(text, _MOST_LAYERS)
    except InputError as error:
        raise InputError(taken) from error
    return text.strip()


def colors_of(text: str) -> list[str]:
    """The labels that `--color` names.

    Raises:
        InputError: there is none.
    """
    names = list(_words(text))
    if not names:
        raise InputError("--color takes labels of rows such as family,frame; got none")
    return names


def formats_of(text: str) -> list[str]:
    """The formats that `--format` names.

    Raises:
        InputError: one is not known, or there is none.
    """
    from geometry.report import known_formats

    return known_formats(_words(text))


def numbers(text: str, read: Callable[[str], Number], taken: str) -> list[Number]:
    """The numbers of an option, which commas divide.

    Args:
        text: what is given.
        read: what makes a number of a part.
        taken: which option takes what, to tell whoever gives something else.

    Raises:
        InputError: a part is no such number.
    """
    try:
        return [read(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{taken}; got {text!r}") from error


def file_stem(*parts: str) -> str:
    """A file name out of labels that may hold any characters: no folders, nothing that steers a terminal, not too long.

    Longer names than file systems take are cut, and told apart by the beginning of their SHA-256.
    """
    whole = printable("-".join(filter(None, parts))).replace(":", "").replace("/", "-").replace("\\", "-")
    if len(whole.encode()) <= _LONGEST_STEM:
        return whole
    kept = whole.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def results_folder(out: Path | None, default: str) -> Path:
    """The folder of a command's figures and tables, looked at before any work is done for them.

    Raises:
        GeometryError: no file can be written there, or no figure drawn.
    """
    from cache.whole_files import check_folder

    try:
        import geometry.report  # noqa: F401  # which loads matplotlib
    except (ImportError, ValueError) as error:
        raise InputError(f"matplotlib cannot be loaded ({error}); look at its settings in matplotlibrc") from error
    folder = out or Path("figures") / default
    check_folder(folder)
    return folder


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
