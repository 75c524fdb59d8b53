"""Reading a YAML file as a specification, with errors that name file, line and key."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from registry.errors import BadInputError

Specification = TypeVar("Specification", bound=BaseModel)


class MisfitError(ValueError):
    """Keys that are right by themselves, and not together: raised by a model's validator.

    Parameters
    ----------
    location : the key that is to be changed, as a path from the model that validates
    """

    def __init__(self, message: str, *location: int | str) -> None:
        super().__init__(message)
        self.location = location


def read_specification(
    text: str,
    kind: type[Specification],
    *,
    source: str,
    what: str,
    error: type[BadInputError] = BadInputError,
) -> Specification:
    """Return what a YAML text specifies.

    Parameters
    ----------
    source : the file's name, for errors
    what : what it specifies and where that is described: "a monitor; see docs/monitors.md"
    error : raised with one line a problem, each as `file:line: key: what is wrong`
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise error(
            f"{source}{where}: not YAML: {getattr(problem, 'problem', problem)}"
        ) from problem
    twice = _key_that_stands_twice(node)
    if twice is not None:
        line, name = twice
        raise error(f"{source}:{line}: {name}: stands twice: keep one of them")
    if not isinstance(document, dict):
        raise error(f"{source}: a mapping of keys is expected, of {what}")
    try:
        return kind.model_validate(document)
    except ValidationError as refused:
        lines = [
            f"{source}:{_line(node, place)}: {_key(place)}{_words(problem)}"
            for problem in refused.errors()
            for place in [_location(problem)]
        ]
        raise error("\n".join(dict.fromkeys(lines))) from refused


def _key_that_stands_twice(node: yaml.Node | None) -> tuple[int, str] | None:
    """Return the line and name of a key that its mapping has already; YAML would take the last."""
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                return key.start_mark.line + 1, name
            seen.add(name)
        parts = [value for _, value in node.value]
    return next(filter(None, map(_key_that_stands_twice, parts)), None)


def _location(problem: ErrorDetails) -> tuple[int | str, ...]:
    raised = problem.get("ctx", {}).get("error")
    misfit = raised.location if isinstance(raised, MisfitError) else ()
    return (*problem["loc"], *misfit)


def _key(location: tuple[int | str, ...]) -> str:
    # A choice between types stands in the path as what the library calls it.
    parts = [str(part) for part in location if "[" not in str(part)]
    return f"{'.'.join(parts)}: " if parts else ""


def _words(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return "is no key that is known here"
    return problem["msg"].removeprefix("Value error, ")


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Return the line of the deepest key of `location` that the file has, from 1."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line
