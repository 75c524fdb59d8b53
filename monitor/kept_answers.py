"""Answers that are kept between questions, for whoever asks the same of a past that stands still.

A replay asks of its references at each alarm what it asked at the one before. Its sessions
carry a `KeptAnswers`; those of an installation carry none, and there each question is asked anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from sqlalchemy.orm import Session

_Answer = TypeVar("_Answer")
#: Where a session carries them, in its `info`.
KEPT = "kept answers"


class KeptAnswers:
    """Answers by question, each with the scans that it is about."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[frozenset[int], object]] = {}

    def once(
        self,
        question: Hashable,
        answer: Callable[[], _Answer],
        about: Callable[[], frozenset[int]],
    ) -> _Answer:
        """Return the answer to a question, found now if it is not known.

        Parameters
        ----------
        about : returns the ids of scans whose labels and results the answer rests on
        """
        if question not in self._answers:
            self._answers[question] = about(), answer()
        found: _Answer = self._answers[question][1]  # type: ignore[assignment]
        return found

    def forget(self, scans: Iterable[int]) -> None:
        """Forget what rests on scans of which there is something new, by id."""
        new = frozenset(scans)
        for question, (about, _) in list(self._answers.items()):
            if not about.isdisjoint(new):
                del self._answers[question]


def once(
    session: Session,
    question: Hashable,
    answer: Callable[[], _Answer],
    *,
    about: Callable[[], frozenset[int]] = frozenset,
) -> _Answer:
    """Return the answer to a question, kept where the session carries kept answers."""
    kept: KeptAnswers | None = session.info.get(KEPT)
    return answer() if kept is None else kept.once(question, answer, about)
