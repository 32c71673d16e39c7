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
    written = what.__annotations__
    what.__annotations__ = {name: _as_known(hint, what) for name, hint in written.items()}
    try:
        return _checked_function(what)
    finally:
        what.__annotations__ = written


def _checked_function(what: typing.Any) -> typing.Any:
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


def _as_known(hint: typing.Any, function: typing.Any) -> typing.Any:
    """An annotation, or anything at all in place of a text that only mypy can read."""
    own = dict.fromkeys(function.__qualname__.split("."), object)
    try:
        if isinstance(hint, str):
            eval(hint, {**function.__globals__, **own})
    except (NameError, AttributeError, TypeError):
        return typing.Any
    return hint
