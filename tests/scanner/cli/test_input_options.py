"""The options of `scan inputs` make settings, and a policy for scans leaves its level alone."""

from pathlib import Path

from scanner.cli import options
from scanner.cli.input_options import InputOptions, settings
from scanner.settings import Settings


def test_they_make_settings() -> None:
    chosen = InputOptions(
        clean=Path("clean"), input_shape="3,8,8", threads=2, memory_limit="1GiB", logits="scores"
    )
    made = settings(chosen)
    assert (made.input_shape, made.threads, made.logits) == ((3, 8, 8), 2, "scores")
    assert made.limits.memory == 2**30
    assert settings(InputOptions(clean=Path("clean"))) == Settings()


def test_a_policys_alpha_is_one_of_models() -> None:
    own = set(InputOptions.__dataclass_fields__)
    assert {"alpha", "fdr", "format", "output", "evidence"} & own == set()
    assert {"threads", "input_range", "seed"} <= own & set(options.names().values())
