"""The store: activations, rows and prompts of one recording, or of several that belong together."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cache.arrays import ArrayLike
from cache.errors import InputError
from cache.families.controls import CONTROL_PREFIX
from cache.models.hooks import Hook, HookLike, Layers, in_order, layers_by_kind, recorded_hook
from cache.models.model import LoadedModel, check_loaded
from cache.prompts.prompt import SHOWN
from cache.shown.cards import card
from cache.store.elsewhere import store_arrays
from cache.store.file import FileGroup, StoreFile, check_joinable, grouped, joined_tables, open_store_file, site_name
from cache.store.view import View, Where, row_mask, view_of

_AT_ONCE = 1 << 16  # rows that `load` reads and checks at a time


class ActivationStore:
    """Recorded activations; every hook shares one row axis, a row being one token of one prompt.

    Rows of a file that is still being recorded, or was broken off, are those of its finished blocks.

    Attributes:
        paths: the files.
        hooks: the sites that every row has, in the order of a forward pass.
        rows: one row a recorded token: `prompt` (row number in `prompts`), `position` (counted in the text's
            tokens from 0; BOS is -1), `token`, `token_text`, `member` (index of the shown member whose last
            token it is, else -1), `is_last` (the text's last token), `value` (that member's ordinal, else -1),
            `shown` (that member, else empty), and the prompt's family, frame, template, kind, group, answer,
            distractor and pair_key.
        prompts: one row a prompt, with the fields of `cache.prompts.prompt.Prompt` and `pair_key`.
        n_planned: rows that there will be once all is recorded.
        complete: whether every planned row is recorded.
        fingerprint: SHA-256 over all that the recording depends on; of several files, joined by `+`.
        manifest: the fields behind the (first) fingerprint, and library versions.
        created: when the (first) file was created, ISO 8601, UTC.
        command: the command that created it.

    Example:
        >>> with ActivationStore.open("activations/tour.h5") as store:
        ...     x = store.load(("resid_post", 1), "family == 'digits' and is_last")
        >>> x.shape  # (row, d_model)
        torch.Size([30, 33])
        >>> store.rows["family"].unique().tolist()
        ['digits', 'numwords', 'months']
    """

    def __init__(self, paths: tuple[Path, ...], groups: list[FileGroup]) -> None:
        self.paths = paths
        self._groups = groups
        files = [file for group in groups for file in group.files]
        self.manifest = files[0].manifest
        self.fingerprint = "+".join(file.fingerprint for file in files)
        self.created, self.command = files[0].created, files[0].command
        self.n_planned = sum(group.files[0].n_rows for group in groups)
        self.complete = self.n_planned == sum(len(group.recorded) for group in groups)
        self.hooks = in_order(set.intersection(*({hook for file in g.files for hook in file.hooks} for g in groups)))
        self.prompts, self.rows = joined_tables(groups)

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Open one file; use `with`, or `close` it.

        Raises:
            NotAvailableError: there is no such file.
            CorruptFileError: the file is no store, or is damaged.
        """
        return open_stores([path])

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[HookLike, ArrayLike],
        rows: Any,
        path: str | Path,
        *,
        model: LoadedModel | None = None,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> "ActivationStore":
        """A sealed store of activations that were recorded elsewhere: every analysis by layer then works on them.

        Args:
            arrays: by site, (row, d), or (row, head, d_head) of `q`, `k`, `v` and `z`; what `as_rows` takes.
            rows: the rows' labels, one line each: a data frame, or what else `load_dataset` takes. Its columns are
                those of one's own prompts (`text`, `family`, `member`, `pair`, `ordinal`, `answer`, `group`, `frame`,
                `template`, all optional), others are further labels. Where several rows are tokens of one prompt,
                `prompt` says of which; `position`, `token`, `token_text` and `is_last` say more of the row.
            path: the HDF5 file. If it is there and holds the same, it is left as it is.
            model: the model that they come from, if it is to be steered, or its words read off; None if not.
            dtype: what is stored: `float32` or `float16`.
            overwrite: begin anew, whatever store is at `path`.

        Raises:
            InputError: an array is none, or does not go with the rows; or these are no labels of prompts.
            NumbersError: a value is not finite, or too large for the dtype.
            FingerprintError: another store is at the path.
            NoSpaceError, NotAvailableError, LockedError: it cannot be written.
        """
        return cls.open(store_arrays(arrays, rows, path, model=model, dtype=dtype, overwrite=overwrite))

    @property
    def families(self) -> tuple[str, ...]:
        """The families of the prompts, in their order, controls not among them."""
        return tuple(name for name in self._names if not name.startswith(CONTROL_PREFIX))

    @property
    def controls(self) -> tuple[str, ...]:
        """The families that are controls."""
        return tuple(name for name in self._names if name.startswith(CONTROL_PREFIX))

    @property
    def _names(self) -> list[str]:
        return [name for name in dict.fromkeys(self.prompts["family"]) if name]

    @property
    def weights(self) -> str:
        """Content hash of the weights of the model that was recorded."""
        return str(self.manifest["hard"]["model weights"])

    def load(self, hook: HookLike, where: Where = None) -> Float[Tensor, "chosen d"]:
        """Activations of one site, float32 on the CPU; heads stand side by side unless the hook names one.

        Args:
            hook: a `Hook`, its name, or kind and layer: `("resid_post", 6)`. A negative layer counts from the
                last one that the store has of that kind.
            where: which rows: a mask over `rows`, or a query over its columns (`cache.store.view.query_rows`), such as
                `family == 'digits' and is_last`; None for all.

        Raises:
            InputError: the store has no such site (the message names near ones), or `where` is no such thing.
            CorruptFileError: a block that holds one of the rows is not what was written.
        """
        chosen, mask = self.site(hook), row_mask(self.rows, where)
        out = _empty(int(mask.sum()), self.width(chosen))
        start = 0
        for file, rows in self._parts(chosen, mask, _AT_ONCE):
            file.reader.read(site_name(chosen), chosen.head, rows, out[start : start + len(rows)].numpy())
            start += len(rows)
        return out

    def __getitem__(self, hook: HookLike) -> Float[Tensor, "chosen d"]:
        return self.load(hook)

    def select(self, where: Where) -> pd.DataFrame:
        """The lines of `rows` that `load` gives for the same `where`, in the same order.

        Raises:
            InputError: as for `load`.
        """
        return self.rows[row_mask(self.rows, where)].reset_index(drop=True)

    def blocks(self, hook: HookLike, where: Where = None, *, n_rows: int = 8192) -> Iterator[Float[Tensor, "chosen d"]]:
        """The same rows as `load`, in pieces of at most `n_rows`, for data larger than memory.

        Raises:
            InputError: as for `load`.
        """
        if n_rows < 1:
            raise InputError(f"n_rows must be 1 or more; got {n_rows}")
        return self._pieces(self.site(hook), row_mask(self.rows, where), n_rows)

    def view(
        self, site: str = "resid_post", layers: Layers = "all", where: Where = None, rows: str | None = None
    ) -> View:
        """Sites of one kind at some layers, and some rows: what every analysis takes.

        Args:
            site: the kind of site, or the name of one (`blocks.3.hook_resid_post`); those of `resid_post` begin with
                the embedding, layer -1.
            layers: `all`, numbers (3, or [0, 1]), a string of layers and ranges, or `spread`: eight, evenly, up to the
                last.
            where: which rows, as for `load`. A query of prompts' labels alone (`family == 'digits'`) narrows what an
                analysis takes by itself; one that names a token's own columns (`is_last`, `member`, `position`, ...),
                or a mask, chooses among all rows. BOS is left out either way.
            rows: `members`, `last` or `all`: which rows of each prompt, in place of what an analysis takes by itself.

        Raises:
            InputError: the store has no such site at those layers, or `where` is no query or mask over its rows.
        """
        return view_of(self, site, layers, where, rows)

    def site(self, hook: HookLike) -> Hook:
        """The recorded site that is meant: by a `Hook`, its name, or kind and layer (-1 is the kind's last).

        Raises:
            InputError: the store has no such site; the message names near ones.
        """
        return recorded_hook(hook, self.hooks, self.paths[0].name)

    def close(self) -> None:
        """Close the files; tables and tensors already read stay."""
        for group in self._groups:
            for file in group.files:
                file.reader.close()

    def __enter__(self) -> "ActivationStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def width(self, hook: Hook) -> int:
        """Dimensions of a site's activations as `load` gives them.

        Raises:
            InputError: there is no such head.
        """
        shape = self._groups[0].file_of(hook).row_shape(hook)
        if hook.head is not None and hook.head >= shape[0]:
            raise InputError(f"{hook.name} has heads 0 to {shape[0] - 1}; got {hook.head}")
        return int(shape[-1] if hook.head is not None else np.prod(shape))

    def __repr__(self) -> str:
        names = ", ".join(path.name for path in self.paths)
        return f"<ActivationStore {names}: {len(self.rows)} rows, {len(self.hooks)} sites>"

    def _repr_html_(self) -> str:
        names = [path.name for path in self.paths]
        kinds = [f"{len(layers)} of {kind}" for kind, layers in layers_by_kind(self.hooks).items()]
        facts = {
            "model": self.manifest["soft"].get("model", ""),
            "layers": ", ".join(kinds),
            "families": ", ".join(self.families),
            "controls": len(self.controls) or "",
            "not complete": "" if self.complete else f"{len(self.rows)} of {self.n_planned} rows so far",
        }
        title = f"{', '.join(names)}: {len(self.rows)} rows of {len(self.prompts)} prompts, {len(self.hooks)} sites"
        hook = self.hooks[-1]
        then = (
            f'store.view("{hook.kind}")',
            f'store.load(("{hook.kind}", {hook.layer}), "is_last")',
            f'pca_by_layer(store.view("{hook.kind}"))',
        )
        return card(title, facts, self.prompts[[*SHOWN]], then)

    def _parts(
        self, hook: Hook, mask: Bool[np.ndarray, "row"], n_rows: int
    ) -> Iterator[tuple[StoreFile, Int[np.ndarray, "chosen"]]]:
        """The chosen rows, at most `n_rows` of one file at a time."""
        first = 0
        for group in self._groups:
            file = group.file_of(hook)
            chosen = group.recorded[mask[first : first + len(group.recorded)]]
            first += len(group.recorded)
            for start in range(0, len(chosen), n_rows):
                if file.reader.closed:  # asked each time: its handle's number may be another file's by now
                    raise InputError(f"{self.paths[0].name} is closed; open it again")
                yield file, chosen[start : start + n_rows]

    def _pieces(self, hook: Hook, mask: Bool[np.ndarray, "row"], n_rows: int) -> Iterator[Float[Tensor, "chosen d"]]:
        width = self.width(hook)
        for file, rows in self._parts(hook, mask, n_rows):
            out = _empty(len(rows), width)
            file.reader.read(site_name(hook), hook.head, rows, out.numpy())
            yield out


def check_open(store: ActivationStore) -> None:
    """Make sure that what is to be analysed is a store, and not where one lies.

    Raises:
        InputError: it is a path, or anything else.
    """
    given: object = store
    if isinstance(given, str | os.PathLike):
        raise InputError(f"an analysis takes an open store; open it with ActivationStore.open({os.fspath(given)!r})")
    if not isinstance(given, ActivationStore):
        raise InputError(f"an analysis takes a store, as ActivationStore.open gives it; got {type(given).__name__}")


def check_source(store: ActivationStore, model: LoadedModel) -> None:
    """Make sure that a store was recorded from a model with these weights.

    Raises:
        InputError: the store is not open but a path, or the model is a name.
        FingerprintError: it was recorded from another model.
    """
    check_open(store)
    check_loaded(model)
    named = store.manifest["soft"].get("model", "its name is not noted")
    model.check_weights(store.weights, store.paths[0].name, named)


def open_stores(paths: Iterable[str | Path]) -> ActivationStore:
    """Several files as one store: files with the same prompts add sites, files with others add rows.

    Raises:
        InputError: no path is given, two files keep other positions of the same prompts, or no site is in all.
        FingerprintError: the files come from different models, tokenizers or settings; names the fields.
        NotAvailableError, CorruptFileError: as for `ActivationStore.open`.

    Example:
        >>> with open_stores(["activations/tour.h5", "activations/neurons.h5"]) as both:
        ...     both.load(("mlp_post", 0)).shape[0] == both.load(("resid_post", 0)).shape[0]
        True
    """
    resolved = tuple(Path(path) for path in paths)
    if not resolved:
        raise InputError("no store given; give one or more .h5 files made by geometry cache")
    with ExitStack() as stack:
        files = []
        for path in resolved:
            files.append(open_store_file(path))
            stack.callback(files[-1].reader.close)
        check_joinable(files)
        store = ActivationStore(resolved, grouped(files))
        if not store.hooks:
            raise InputError(f"no site is in all of {', '.join(map(str, resolved))}")
        stack.pop_all()  # the store closes them from here on
        return store


def head_outputs(
    store: ActivationStore, model: LoadedModel, layer: int, where: Where = None
) -> Float[Tensor, "chosen head d_model"]:
    """What each head writes to the residual stream: `z @ W_O`; their sum plus `b_O` is attn_out.

    Raises:
        InputError: the store has no z of that layer.
        FingerprintError: it was recorded from another model.

    Example:
        >>> head_outputs(store, model, 1, "is_last and family == 'digits'").shape  # (row, head, d_model)
        torch.Size([30, 3, 33])
    """
    check_source(store, model)
    z, w_o = store.load(Hook("z", layer), where), model.output_projection(layer)
    return torch.einsum("rhd,hdm->rhm", z.reshape(len(z), *w_o.shape[:2]), w_o)


def _empty(n_rows: int, width: int) -> Float[Tensor, "chosen d"]:
    """Memory to read into: numpy's, which takes large pages where torch takes many small ones."""
    return torch.from_numpy(np.empty((n_rows, width), dtype=np.float32))
