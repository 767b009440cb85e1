"""The guided driver: atheris looks for mutants that reach lines not reached before.

    pip install '.[fuzz]'
    PYTHONPATH=.:tests python -m fuzz.guided graphs -max_total_time=3600

What follows the target goes to libFuzzer. It starts from the corpus, keeps what it learns in a
folder of its own (the first argument that is a folder, else a temporary one), and makes half of its
mutants as `fuzz.mutation` does, since bytes changed at random mostly end at the parser.
"""

import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scanner"]):
    from fuzz import corpus, mutation, targets


def main() -> None:
    """Run from the command line."""
    name, *options = sys.argv[1:] or [""]
    if name not in targets.TARGETS:
        sys.exit(f"the first argument must be one of {', '.join(targets.TARGETS)}")
    replies = name == "replies"
    seeds = corpus.replies() if replies else corpus.files()
    change = mutation.mutated_reply if replies else mutation.mutated

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        if random.Random(seed).random() < 0.5:
            return bytes(atheris.Mutate(data, longest))
        return change(data, seeds, seed)[:longest]

    def once(data: bytes) -> None:
        targets.TARGETS[name](data)

    with tempfile.TemporaryDirectory() as learnt:
        own = [] if any(Path(option).is_dir() for option in options) else [learnt]
        given = str(corpus.REPLIES if replies else corpus.FILES)
        arguments = [sys.argv[0], *options, *own, given, "-timeout=10", "-rss_limit_mb=4096"]
        atheris.Setup(arguments, once, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
