"""The one exception for mistakes a user can mend: its message names the file, field or row and what to do."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Callable, Iterable
from typing import ParamSpec

P = ParamSpec("P")


class UserError(Exception):
    """Shown without a traceback; exit code 2."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """' (did you mean X?)' when a valid name is close to `name`, else the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else f" (valid: {', '.join(names)})"


def one_clear_error(main: Callable[P, int]) -> Callable[P, int]:
    """A command's main function that ends a UserError with its message alone, and 2."""

    @functools.wraps(main)
    def command(*args: P.args, **options: P.kwargs) -> int:
        try:
            return main(*args, **options)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return command
