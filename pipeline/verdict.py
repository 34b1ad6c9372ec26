"""Measurements held against limits: pass, fail, or not run with the reason."""

import math
from collections.abc import Iterable, Iterator

from pipeline.types import CheckResult, Limit, Measurement, Variant


def judge(variant: Variant, check: str, found: Iterable[Measurement], trained: bool) -> Iterator[CheckResult]:
    """Yield one result for each limit that the variant sets for this check.

    A measurement without a limit is information and has no result; a limit whose measurement is missing, or has no
    value, is `not run`: never a pass.
    """
    by_name = {f"{check}.{measurement.name}": measurement for measurement in found}
    for limit in variant.limits:
        if limit.measurement.split(".")[0] == check:
            yield _judge(limit, by_name.get(limit.measurement), trained)


def blocks(result: CheckResult, purpose: str) -> bool:
    """Return whether a result stands in the way of the build or of publishing."""
    return result.outcome == "fail" or (result.outcome == "not run" and result.required == purpose)


def _judge(limit: Limit, measurement: Measurement | None, trained: bool) -> CheckResult:
    least, most = (limit.least, limit.most) if trained else limit.synthetic
    bounds = [f"{sign} {bound:g}" for sign, bound in (("≥", least), ("≤", most)) if bound is not None]
    value = measurement.value if measurement else None
    note = measurement.note if measurement else "not measured"
    if value is None:
        outcome = "not run"
    elif not math.isfinite(value):
        outcome, value, note = "fail", None, f"{value} is not a measurement; {note}"
    elif not bounds:
        outcome, note = "not run", f"no limit for {'trained' if trained else 'synthetic'} weights"
    else:
        inside = (least is None or value >= least) and (most is None or value <= most)
        outcome = "pass" if inside else "fail"
    return CheckResult(
        name=limit.measurement,
        measured=value,
        limit=" and ".join(bounds),
        unit=limit.unit,
        outcome=outcome,  # type: ignore[arg-type]
        note=note,
        required=limit.required,
        detail=measurement.detail if measurement else {},
    )
