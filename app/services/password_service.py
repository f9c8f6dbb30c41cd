"""Which passwords are taken: long, and not one that whoever guesses would try first (NIST SP 800-63B, section 3.1.1.2).

No rules about kinds of characters: they make passwords that people forget and programs guess.
"""

from __future__ import annotations

import gzip
import unicodedata
from functools import lru_cache
from importlib.resources import files

from app.core.errors import InvalidInput
from app.core.security import LONGEST_PASSWORD

WORDS_FILE = "common_passwords.txt.gz"
OF_THE_PRODUCT = ("smsplatform", "smsmarketing", "smsctl")
SHORTEST_NAME = 4
"""A shorter one before the @ may stand in a password by chance."""
ENOUGH_BESIDE_A_NAME = 8
"""Letters and figures that a password must have beside a name that stands in it."""
LONG = 16
"""From this length on a password is compared as it is: what is put around a word is then a good part of it."""
FEWEST_KINDS = 5
"""Different characters in a password at least."""
MOST_AROUND = 8
"""Figures and signs put around a well-known word that do not make another password of it."""
AROUND = "0123456789 !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿"
_LEET = str.maketrans(
    {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s", "!": "i"}
)
SEQUENCES = (
    "0123456789" * 3,
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertyuiopasdfghjklñzxcvbnm",
)


def require_acceptable(password: str, email: str, shortest: int) -> None:
    """Return when `password` may be the password of the account `email`.

    Raises: InvalidInput `password_weak` that says what is wrong with it.
    """
    text = unicodedata.normalize("NFKC", password)
    if len(text) < shortest:
        raise _weak(f"The password has fewer than {shortest} characters.")
    if len(text) > LONGEST_PASSWORD:
        raise _weak(f"The password has more than {LONGEST_PASSWORD} characters.")
    if any(0xD800 <= ord(char) <= 0xDFFF or char == "\0" for char in text):
        raise _weak("The password has characters that cannot be typed.")
    folded = _fold(text)
    if len(set(folded)) < FEWEST_KINDS:
        raise _weak("The password repeats a few characters.")
    if _is_sequence(folded) or _is_repeated(folded):
        raise _weak("The password is a sequence or a repetition.")
    letters, local = _letters(folded), _letters(_fold(email.partition("@")[0]))
    names = [name for name in (local, *OF_THE_PRODUCT) if len(name) >= SHORTEST_NAME and name in letters]
    if any(len(letters.replace(name, "")) < ENOUGH_BESIDE_A_NAME for name in names):
        raise _weak("The password is little more than the account's or the product's name.")
    if not _forms(folded).isdisjoint(_words()):
        raise _weak("The password is one of those that are tried first.")


def _weak(why: str) -> InvalidInput:
    return InvalidInput(f"{why} Take a few words that belong to nobody else.", code="password_weak")


def _fold(text: str) -> str:
    """Lower case, without accents."""
    return "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _forms(folded: str) -> set[str]:
    """The password, what is left of it without a few characters around a word, and both with letters for figures."""
    if len(folded) >= LONG:
        return {folded, _letters(folded)}
    cores = {folded, folded.strip(AROUND), folded.rstrip(AROUND)}
    cores = {core for core in cores if len(folded) - len(core) <= MOST_AROUND}
    forms = cores | {core.translate(_LEET) for core in cores} | {folded.translate(_LEET).strip(AROUND)}
    return {kept for form in forms for kept in (form, _letters(form)) if kept}


def _is_sequence(folded: str) -> bool:
    return any(folded in line or folded in line[::-1] for line in SEQUENCES)


def _is_repeated(folded: str) -> bool:
    """True for one short piece again and again: abcabcabcabc."""
    return (folded + folded).index(folded, 1) < len(folded)


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    text = gzip.decompress(files("app.data").joinpath(WORDS_FILE).read_bytes()).decode()
    return frozenset(text.split("\n"))
