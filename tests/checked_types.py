"""Types checked while tests run: arrays and their axes by jaxtyping, all else by beartype alone, far faster."""

import inspect
import typing

import jaxtyping

PACKAGES = ("cache", "geometry", "probes")
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
"""Where a float is asked for, an int will do (PEP 484)."""


def check_types() -> None:
    """Check calls of all that is imported from now on."""
    axes_checked = jaxtyping.jaxtyped

    def checked(*, typechecker):
        def decorate(what):
            of_arrays = not inspect.isfunction(what) or any(map(_names_arrays, what.__annotations__.values()))
            return axes_checked(typechecker=typechecker)(what) if of_arrays else typechecker(what)

        return decorate

    jaxtyping.jaxtyped = checked
    jaxtyping.install_import_hook(PACKAGES, CHECKER)


def _names_arrays(hint) -> bool:
    """Whether an annotation is of arrays with axes; a text may be, and beartype alone wants to know what it names."""
    if isinstance(hint, str) or (isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)):
        return True
    return any(map(_names_arrays, hint if isinstance(hint, list) else typing.get_args(hint)))
