"""Types checked while tests run: by beartype, arrays' axes by jaxtyping in one context a call.

jaxtyping's own decorator binds every call to a signature and checks its parameters twice, for longer messages: a
quarter of the suite's time.
"""

import dataclasses
import functools
import inspect
import typing

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

PACKAGES = ("cache", "geometry", "probes")
_check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
"""Where a float is asked for, an int will do (PEP 484)."""


def check_types() -> None:
    """Check calls of all that is imported from now on."""
    jaxtyping.install_import_hook(PACKAGES, "tests.checked_types.checked")
    jaxtyping.jaxtyped = lambda *, typechecker: typechecker


def checked(what: typing.Any) -> typing.Any:
    """A function whose calls are checked, or a class; of a frozen value the making is."""
    if inspect.isclass(what):
        if dataclasses.is_dataclass(what):
            what.__init__ = checked(what.__init__)
        return what
    if any(isinstance(hint, str) and not _is_known(hint, what) for hint in what.__annotations__.values()):
        return what
    if inspect.isgeneratorfunction(what):  # its body runs in the context of whoever asks for the next value
        return jaxtyped(typechecker=_check)(what)
    function = _check(what)
    if not any(map(_names_arrays, what.__annotations__.values())):
        return function

    @functools.wraps(what)
    def in_one_context(*args, **kwargs):
        with jaxtyped("context"):
            return function(*args, **kwargs)

    return in_one_context


def _names_arrays(hint: typing.Any) -> bool:
    """Whether an annotation is of arrays with axes; a text may be, and beartype alone knows what it names."""
    if isinstance(hint, str) or (isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)):
        return True
    return any(map(_names_arrays, hint if isinstance(hint, list) else typing.get_args(hint)))


def _is_known(hint: str, function: typing.Any) -> bool:
    """Whether a text is a type while tests run: what mypy alone knows is none."""
    own = dict.fromkeys(function.__qualname__.split("."), object)
    try:
        eval(hint, {**function.__globals__, **own})
    except (NameError, AttributeError, TypeError):
        return False
    return True
