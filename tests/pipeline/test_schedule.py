"""Which variants are built at the same time."""

from concurrent.futures import Future

from pipeline import schedule
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.schedule import Built, Failed
from pipeline.types import Variant


def _done(variant: Variant) -> Future[Built | Failed]:
    future = Future[Built | Failed]()
    future.set_result(Failed(variant, "", 2))
    return future


def test_variants_that_would_wait_for_each_other_are_begun_apart() -> None:
    """Checkpoints of one network share steps in equal forms, so another form comes in between; nothing is left out."""
    known = {variant.id: variant for variant in read_matrix(ROOT / "variants.yaml").variants}
    names = [
        "segmentation-3.0/fp16",
        "segmentation-3.0/w8",
        "segmentation-community-1/fp16",
        "segmentation-3.0/fp16-5s",
        "sortformer-v2.1/w6-contexts",
        "sortformer-v2.1/w6-low",
        "plda-community-1/fp32",
    ]
    begun: list[str] = []

    def begin(variant: Variant) -> Future[Built | Failed]:
        begun.append(variant.id)
        return _done(variant)

    variants = [known[name] for name in names]
    assert len(list(schedule._outcomes(variants, 2, begin, keep_going=True))) == len(names)
    assert begun[:2] == [names[0], names[3]]
    assert sorted(begun) == sorted(names)


def test_nothing_is_begun_after_a_failure() -> None:
    """What is under way comes to its end."""
    variants = read_matrix(ROOT / "variants.yaml").variants
    assert len(list(schedule._outcomes(variants, 2, _done, keep_going=False))) == 2
