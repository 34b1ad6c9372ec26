"""The operation that ends a classifier: coremltools' `iOS15/classify.py`."""

from mil.errors import MilError
from mil.ops.arguments import Tensor


def classify(probabilities: Tensor, classes: list[str] | list[int]) -> tuple[str | int, dict[str | int, float]]:
    """Return the most probable class (the first of equals), and the probability of each class.

    probabilities  as many elements as there are classes, any shape

    Raises MilError if the number of probabilities is not that of the classes, or there are none.
    """
    values = probabilities.reshape(-1)
    if not classes or len(values) != len(classes):
        raise MilError(f"classify: {len(values)} probabilities for {len(classes)} classes; expected one per class")
    return classes[int(values.argmax())], dict(zip(classes, values.tolist(), strict=True))
