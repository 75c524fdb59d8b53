"""How the alpha of superiority is spent over the candidates that one locked set may judge.

A candidate that is no better passes one test at alpha with a chance of alpha; of ten of them
one passes far more often, and a run that is refused is followed by another. The plan declares
how many candidates a locked set may judge, and alpha is shared out over them in advance: of K,
candidate j is tested at

    alpha / (j (1 + 1/2 + ... + 1/K)),

which sums to alpha. The chance that any of K candidates passes without being better is then at
most alpha, whatever their dependence (Bonferroni's inequality), as long as what comes next is
not made with the figures of what was refused: a bare refusal tells no more than was reckoned
with (Blum and Hardt 2015, ICML, section 3). Early candidates get more than an equal share,
since most sets judge one or two; with one declared use it is alpha itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """Which of the candidates that a locked set may judge this one is."""

    #: candidates that it has judged
    before: int
    #: candidates that it may judge in all, as the plan declares
    declared: int

    def __post_init__(self) -> None:
        if not 0 <= self.before < self.declared:
            raise BadInputError(
                f"the locked set has judged {self.before} candidates of {self.declared}: "
                "collect a new one"
            )

    @property
    def number(self) -> int:
        """The candidate's own number, from 1."""
        return self.before + 1

    def spent(self, alpha: float) -> float:
        """Return the part of an alpha that this candidate is tested at.

        >>> [round(Uses(before=j, declared=3).spent(0.033), 4) for j in range(3)]
        [0.018, 0.009, 0.006]
        """
        if self.declared == 1:
            return alpha
        return alpha / (self.number * sum(1.0 / j for j in range(1, self.declared + 1)))

    def in_words(self) -> str:
        """Return which candidate this is, for a sentence."""
        if self.declared == 1:
            return "the only candidate that this locked set may judge"
        return (
            f"candidate {self.number} of at most {self.declared} that this locked set may judge"
        )


#: Of a set that is made for one candidate and used up by it.
ONLY_USE = Uses(before=0, declared=1)
