"""The one exception for mistakes a user can mend: its message names the file, field or row and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Shown without a traceback; exit code 2."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """' (did you mean X?)' when a valid name is close to `name`, else the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else f" (valid: {', '.join(names)})"
