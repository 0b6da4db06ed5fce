"""The package's logger."""

from __future__ import annotations

import logging

logger = logging.getLogger("transfer")
# Applications decide where messages go; without a handler, Python would print warnings.
logger.addHandler(logging.NullHandler())
