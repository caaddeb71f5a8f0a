"""One printable line of any text that came from outside: a server, a file, a command line."""

from typing import Final

# Letters that are counted as printable and show nothing, or show on other letters.
_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SELECTORS: Final = range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)
MOST: Final = 200


def last_words(text: str, most: int = 300) -> str:
    """The end of a log in one line: what went wrong stands there.

    >>> last_words("starting" + 300 * "." + chr(10) + "no room is left")[-17:]
    '. no room is left'
    >>> last_words(299 * chr(27) + "no room is left")[-15:]
    'no room is left'
    """
    return one_line(text[-most:], 10 * most)[-most:]


def one_line(text: str, most: int = MOST) -> str:
    """The text in one line of at most `most` characters, spelled out where it is not printable.

    What a terminal would obey, what turns the direction of writing, and what nobody sees is spelled
    out, as Python would write it; a byte of a file name that is no text is spelled in hex.

    >>> one_line("red" + chr(27) + "[31m" + chr(10) + "next") == r"red" + chr(92) + "x1b[31m next"
    True
    >>> one_line("x" * 1_000_000, 5)
    'xxxx…'
    """
    # As much as can be shown, so that the work is bounded; white space is one blank.
    words = " ".join(text[: 8 * most].split())
    shown = "".join(map(_shown, words[: most + 1]))
    if len(shown) <= most and len(text) <= 8 * most:
        return shown
    return shown[: most - 1] + "…"


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    unseen = character in _UNSEEN or any(ord(character) in each for each in _SELECTORS)
    if character.isprintable() and not unseen:
        return character
    return character.encode("unicode_escape").decode()
