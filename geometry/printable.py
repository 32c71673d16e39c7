"""Text from files, where it is shown: it may hold characters that steer a terminal or spoil a picture."""


def printable(text: str, *, keep: str = "") -> str:
    """The text with everything that would steer a terminal escaped, but for the characters to keep."""
    return "".join(
        mark if mark.isprintable() or mark in keep else mark.encode("unicode_escape").decode() for mark in text
    )
