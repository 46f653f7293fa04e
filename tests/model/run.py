"""Plays lives of the model and prints the violations.

python -m tests.model.run --seeds 2000                    exit 1 on any violation that counts
python -m tests.model.run --only 17 --trace               one life, with everything that happened
python -m tests.model.run --seeds 2000 --mute C:stalls --fuzz 3000
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tests.model.judgement import CONTRACTS_WILL
from tests.model.life import Life
from tests.model.odd_logs import think_through


@dataclass
class Outcome:
    """The result of some lives. `classes`: by class of violation, the seed and a sentence."""

    classes: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    lives: int = 0
    events: int = 0
    recordings: int = 0
    deletes: int = 0
    asks: int = 0
    proven: int = 0

    def counted(self, muted: Collection[str] = ()) -> dict[str, list[tuple[int, str]]]:
        return {
            kind: found
            for kind, found in self.classes.items()
            if kind not in muted and kind not in CONTRACTS_WILL
        }


def play(seeds: Iterable[int], *, trace: bool = False) -> Outcome:
    outcome = Outcome()
    for seed in seeds:
        life = Life(seed, trace=trace)
        for kind, what in life.run():
            outcome.classes[kind].append((seed, what))
        outcome.lives += 1
        outcome.events += sum(book.size for book in life.books.values())
        outcome.recordings += len(life.recs)
        outcome.deletes += life.deletes
        outcome.asks += len(life.asks)
        outcome.proven += sum(ask.proven_at is not None for ask in life.asks.values())
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model.run", description="Plays lives of the model."
    )
    parser.add_argument("--seeds", type=int, default=500, help="how many lives")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", type=int, help="this seed alone")
    parser.add_argument("--trace", action="store_true", help="tell everything")
    parser.add_argument("--fuzz", type=int, default=0, help="so many logs of odd callbacks besides")
    parser.add_argument("--mute", default="", help="classes not to count, comma-separated")
    parser.add_argument("--show", type=int, default=3, help="examples of each class")
    given = parser.parse_args()
    muted = set(filter(None, given.mute.split(",")))
    outcome = play(
        [given.only] if given.only is not None else range(given.first, given.first + given.seeds),
        trace=given.trace,
    )
    for seed in range(given.first, given.first + given.fuzz):
        if wrong := think_through(seed):
            outcome.classes["F:fuzz"].append((seed, wrong))
    print(
        f"{outcome.lives} lives, {given.fuzz} odd logs; {outcome.events} events, "
        f"{outcome.recordings} recordings, {outcome.deletes} DELETEs, {outcome.asks} hand-offs of "
        f"which {outcome.proven} were told go, proven"
    )
    for kind, found in sorted(outcome.classes.items()):
        note = (
            " (muted)"
            if kind in muted
            else " (the contract's will)"
            if kind in CONTRACTS_WILL
            else ""
        )
        print(f"{kind}{note}: {len(found)} in {len({seed for seed, _ in found})} lives")
        for seed, what in found[: given.show]:
            print(f"    seed {seed}: {what}")
    return 1 if outcome.counted(muted) else 0


if __name__ == "__main__":
    sys.exit(main())
