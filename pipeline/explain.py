"""Why a variant would be rebuilt: its first missing step, and how its recipe differs from the one taken last time."""

import json
from collections.abc import Iterator, Sequence

from pipeline.line import Settings, build
from pipeline.recipe import canonical, differences
from pipeline.store import MissingError, Store
from pipeline.types import Step, Variant


def explain(variants: Sequence[Variant], settings: Settings) -> Iterator[str]:
    """Yield one line for each variant, such as `segmentation-3.0/w6: palettize: options.nbits: 8 -> 6`."""
    store = Store(settings.store, builds=False)
    for variant in variants:
        try:
            build(variant, settings, store)
        except MissingError as missing:
            yield f"{variant.id}: {missing.step.name}: {_why(variant, settings, store, missing.step)}"
        else:
            yield f"{variant.id}: up to date"


def _why(variant: Variant, settings: Settings, store: Store, step: Step) -> str:
    if step.name == "assemble":
        return "its folder is not there, or not what it should be"
    recipes = [store.recipe(key) for key in _keys_of_last_run(variant, settings)]
    wanted = json.loads(canonical(step.recipe))
    alike = [recipe for recipe in recipes if recipe and recipe.get("step") == wanted["step"]]
    changes = [list(differences(recipe, wanted)) for recipe in alike]
    if not changes:
        return "never built here"
    fewest = min(changes, key=len)
    return "; ".join(fewest) if fewest else "its stored result is gone or was altered"


def _keys_of_last_run(variant: Variant, settings: Settings) -> list[str]:
    try:
        run = json.loads((settings.out / variant.id / "run.json").read_text())
    except (OSError, ValueError):
        return []
    return [step["key"] for step in run["steps"]]
