from geometry.printable import printable


def test_what_would_steer_a_terminal_is_escaped():
    assert printable("\x1b[31mred\x1b[0m\x07 één 日本\udcff") == r"\x1b[31mred\x1b[0m\x07 één 日本\udcff"


def test_characters_may_be_kept():
    assert printable("a\n\tb\x1b\r", keep="\n\t") == "a\n\tb\\x1b\\r"
