"""What can go wrong for a user, each with the exit code the command line gives it."""


class GeometryError(Exception):
    """A failure that one sentence explains; the command line prints the sentence and no traceback."""

    exit_code = 1


class InputError(GeometryError, ValueError):
    """An argument, option or user's file that cannot be used as given."""

    exit_code = 2


class NotAvailableError(GeometryError):
    """A model, file or network that is not there."""

    exit_code = 3


class CorruptFileError(GeometryError):
    """A file whose content is damaged, or that asks for something no store of ours asks for."""

    exit_code = 4


class FingerprintError(GeometryError):
    """A store that was recorded with another configuration than the one asked for."""

    exit_code = 5


class LockedError(GeometryError):
    """A store that another process is writing."""

    exit_code = 6


class NoSpaceError(GeometryError):
    """A file system without room for what is to be written, or memory without room for the work."""

    exit_code = 7


class NumbersError(GeometryError):
    """Activations that are not finite, or too large for the dtype they are to be stored in."""

    exit_code = 8


class StoppedError(GeometryError):
    """Work stopped on request after a whole block or site; the same call continues it."""

    exit_code = 130
