"""How a statement is put together: of a closed vocabulary, whole numbers and bound parameters. Nothing else gets in."""

from __future__ import annotations

from collections.abc import Iterable

from kitaru.analytics.words import VOCABULARY

Word = str | int


class Statement:
    """A statement as it grows, and its parameters in the order in which they stand in it."""

    def __init__(self) -> None:
        self._words: list[Word] = []
        self.parameters: list[object] = []

    def say(self, *words: Word) -> Statement:
        """Go on with words of the vocabulary, and numbers."""
        self._words.extend(words)
        return self

    def give(self, *values: object) -> Statement:
        """The values of the question marks said last."""
        self.parameters.extend(values)
        return self

    def add(self, other: Statement) -> Statement:
        """Go on with another statement's words and values."""
        self._words.extend(other._words)
        self.parameters.extend(other.parameters)
        return self

    @property
    def words(self) -> tuple[Word, ...]:
        """What was said so far."""
        return tuple(self._words)


def sentence(words: Iterable[Word]) -> str:
    """The text of a statement. Data never becomes text: a word that this program does not have is refused."""
    words = tuple(words)
    if not all(type(word) is int or word in VOCABULARY for word in words):
        raise AssertionError("a statement is made of the vocabulary and of whole numbers")
    return "".join(map(str, words))
