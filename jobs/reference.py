"""Every key of a recipe, as docs/recipe.md has them: `python -m jobs.reference [FILE]`.

Types and defaults are those of the settings classes; what a key does is the comment that stands beside it there. So
there is one place to write it, and a test compares the file with the classes.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.errors import UserError
from app.methods import METHODS
from app.recipe import Recipe
from app.runs import Start
from app.training.settings import TrainSettings

FILE = Path(__file__).parents[1] / "docs" / "recipe.md"
HEAD = """# Recipe reference

Every key of a recipe, made of the settings classes by `make docs-reference`. `sampling.samples` is the key `samples` of
the part `sampling`: `--set sampling.samples=4` changes it. A key without a default must be given. Under `runs.NAME`
three kinds of keys stand side by side: those of every run, of its method's data set, and of its training; `training` of
the recipe holds defaults of the last kind for all runs.

```yaml
name: mine
problems: {source: {kind: file, train: train.jsonl, test: test.jsonl}}
sampling: {samples: 8}
training: {batch: 32}
runs:
  sft: {method: sft, steps: 200}
  rft: {method: rft, samples: sft, per_problem: 4, steps: 200}
```
"""
WORDS = {int: "integer", float: "number", str: "text", bool: "true, false", Any: "any"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@dataclass(frozen=True)
class Part:
    """A settings class and where it stands in a recipe; without the keys in `skip`, which stand elsewhere."""

    title: str
    model: type[BaseModel]
    skip: frozenset[str] = frozenset()


def comments(model: type[BaseModel]) -> dict[str, str]:
    """What the source says beside each key of a class, or on the lines above it; keys of its bases included."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if kind is not BaseModel and issubclass(kind, BaseModel):
            found |= _comments(inspect.getsource(kind))
    return found


def _comments(source: str) -> dict[str, str]:
    lines = source.splitlines()
    words = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            said = [words[line] for line in range(first, (node.end_lineno or first) + 1) if line in words]
            if said:
                found[node.target.id] = " ".join(said)
    return found


def kind_of(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation]
    if origin is Annotated:
        return kind_of(inner[0])
    if origin is Literal:
        return ", ".join(str(value) for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(one) for one in inner if one is not type(None)))
    if origin is tuple:
        return f"list of {kind_of(inner[0])}" if inner[-1] is ... else f"[{', '.join(map(kind_of, inner))}]"
    if origin is dict:
        return "mapping of parts" if _is_part(inner[1]) else "mapping"
    return "part" if _is_part(annotation) else str(annotation)


def _is_part(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def limits(field: FieldInfo) -> str:
    """The bounds of a number."""
    found = [
        f"{sign} {getattr(one, name):g}" for one in field.metadata for name, sign in SIGNS.items() if hasattr(one, name)
    ]
    return ", ".join(found)


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its own"
    if value is None:
        return "none"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_yaml(v)}" for k, v in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else re.sub(r"\n", r"\\n", str(value))


def parts(
    path: str, model: type[BaseModel], seen: set[type[BaseModel]], title: str = "", skip: Iterable[str] = ()
) -> Iterator[Part]:
    """A class and those inside it, each once, where it stands first."""
    if model in seen:
        return
    seen.add(model)
    yield Part(title or path, model, frozenset(skip))
    for name, field in model.model_fields.items():
        where = f"{path}.{name}".lstrip(".") + (".NAME" if get_origin(field.annotation) is dict else "")
        for inner in _models(field.annotation):
            tag = _tag(inner)
            yield from parts(where, inner, seen, f"{where}, kind: {tag}" if tag else "")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if _is_part(annotation):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)


def _tag(model: type[BaseModel]) -> str:
    """The `kind` by which a part is told from others that may stand in its place; empty for most."""
    kind = model.model_fields.get("kind")
    return str(get_args(kind.annotation)[0]) if kind else ""


def section(part: Part) -> str:
    """A heading, what the part is, and a row a key."""
    said, rows = comments(part.model), []
    for name, field in part.model.model_fields.items():
        if name not in part.skip:
            values = ", ".join(filter(None, (kind_of(field.annotation), limits(field))))
            told = said.get(name) or ("names this form" if name == "kind" else _about_of(field.annotation))
            if not told:
                raise UserError(f"{part.model.__name__}.{name}: say what it does, in a comment beside it")
            rows.append("| " + " | ".join((f"`{name}`", values, default_of(field), told)).replace("||", "") + " |")
    head = f"## {part.title}\n\n{inspect.cleandoc(part.model.__doc__ or '')}\n"
    return "\n".join(
        [head, "| key | values | default | what it does |", "|---|---|---|---|", *rows, ""] if rows else [head]
    )


def _about_of(annotation: Any) -> str:
    """The first sentence on a part, for the key that holds it; where there are several forms, that of the last."""
    models = list(_models(annotation))
    if len(models) > 1:
        return "one of these kinds: " + ", ".join(_tag(model) for model in models)
    about = " ".join(inspect.cleandoc(models[0].__doc__ or "").split("\n\n")[0].split()) if models else ""
    return about.partition(". ")[0].rstrip(".")


def text() -> str:
    """The whole reference."""
    seen: set[type[BaseModel]] = set()
    found = [HEAD, *map(section, parts("", Recipe, seen, "The recipe"))]
    found += map(section, parts("runs.NAME", Start, seen))
    found += map(section, parts("runs.NAME", TrainSettings, seen, "runs.NAME: training, of every method"))
    for method in METHODS.values():
        found.append(section(Part(f"runs.NAME, method: {method.name}", method.data)))
        if method.training:
            title = f"runs.NAME, method: {method.name}: training"
            found += map(section, parts("runs.NAME", method.training, seen, title, TrainSettings.model_fields))
    return "\n".join(found)


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    Path(given[0] if given else FILE).write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
