"""A labeler's process: records a verdict on each of its items again and again, and prints what is acknowledged.

Arguments: review, labeler, first round, rounds, verdicts a call.
"""

from __future__ import annotations

import sys

from spurious_imagenet.builders.review.review import Review

ANSWERS = ("yes", "no", "unclear")


def main() -> None:
    path, labeler, first, rounds, at_once = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    review = Review.open(path)
    queue = review.queue(labeler)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(first, first + rounds):
        cue = ANSWERS[number % 3]
        for start in range(0, len(queue), at_once):
            chunk = queue[start : start + at_once]
            stamp = f"2026-01-01T00:00:00.{number:06d}+00:00"
            review.record_many(labeler, [(i, {"cue": cue, "object": "no"}) for i in chunk], stamp)
            print("".join(f"{number} {i}\n" for i in chunk), end="", flush=True)


main()
