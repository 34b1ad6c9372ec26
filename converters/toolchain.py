"""Importing coremltools without the lines that it prints on every Linux machine."""

import logging
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

# Said on import, whatever is converted afterwards: that a newer torch and scikit-learn than Apple's own machines have
# are installed, and that the libraries which only exist on macOS are not there; and when a network has several outputs,
# that they will be several outputs.
_CHATTER = re.compile(
    r"(Torch|scikit-learn) version \S+ (has not been tested with coremltools|is not supported)\b.*"
    r"|Tuple detected at graph output\. This will be flattened in the converted model\."
    r"|Failed to load _ML\w+: No module named 'coremltools\.libcoremlpython'",
    re.DOTALL,
)


def _is_news(record: logging.LogRecord) -> bool:
    return not _CHATTER.fullmatch(record.getMessage())


def coremltools() -> ModuleType:
    """Return coremltools; every warning of its but the known ones is still shown, its progress bars are not."""
    logging.getLogger("coremltools").addFilter(_is_news)
    import coremltools as module
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.mil.passes import pass_pipeline

    ops._tqdm = pass_pipeline.tqdm = _without_bar
    return module


def _without_bar(items: Iterable[Any], **display: Any) -> Iterable[Any]:
    return items
