"""Reading a YAML file as a specification, with errors that name file, line and key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from registry.canonical import Json
from registry.errors import BadInputError

Specification = TypeVar("Specification", bound=BaseModel)
#: A key's path from the top of a file.
Location: TypeAlias = tuple[int | str, ...]

#: A specification has a few thousand characters; reading this many takes seconds.
LARGEST_CHARACTERS = 1 << 18
#: Levels of lists and mappings inside each other; the deepest specification has six.
DEEPEST = 50
#: Values of a whole file, each alias counted with all that it stands for.
MOST_VALUES = 50_000
#: Problems that one error tells; the rest are counted.
_MOST_PROBLEMS = 20
_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _BoundedLoader(yaml.SafeLoader):
    """YAML that exhausts no reader, neither by its depth nor by aliases that multiply it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = 0
        #: by node: how many values it has, and how many levels of them
        self._extents: dict[yaml.Node, tuple[int, int]] = {}

    def resolve(
        self, kind: type[yaml.Node], value: str | None, implicit: tuple[bool, bool]
    ) -> str:
        """Take 10:00 for the text that it is, and not for 600, as YAML 1.1 has it."""
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        by_sixty = tag in _NUMBERS and ":" in (value or "")
        return _TEXT if by_sixty else tag

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        alias = self.check_event(yaml.AliasEvent)
        self._level += 1
        if self._level > DEEPEST:
            raise _too_deep(mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is not None and node not in self._extents:
            if alias:  # of what is not complete yet
                raise yaml.composer.ComposerError(
                    None,
                    None,
                    "an alias stands inside what it stands for: write that out",
                    mark,
                )
            self._extents[node] = self._extent(node, mark)
        return node

    def _extent(self, node: yaml.Node, mark: yaml.Mark) -> tuple[int, int]:
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        values = 1 + sum(self._extents[part][0] for part in parts)
        levels = 1 + max((self._extents[part][1] for part in parts), default=0)
        if values > MOST_VALUES:
            raise yaml.composer.ComposerError(
                None,
                None,
                f"more than {MOST_VALUES} values, with all that aliases stand for: say less",
                mark,
            )
        if levels > DEEPEST:
            raise _too_deep(mark)
        return values, levels


def _timestamp(loader: _BoundedLoader, node: yaml.ScalarNode) -> object:
    """Return a date or a time, or the text of one that does not exist: its reader names the key."""
    try:
        return loader.construct_yaml_timestamp(node)
    except ValueError:
        return loader.construct_scalar(node)


_BoundedLoader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)


def _too_deep(mark: yaml.Mark) -> yaml.YAMLError:
    return yaml.composer.ComposerError(
        None, None, f"more than {DEEPEST} lists and mappings stand inside each other", mark
    )


class MisfitError(ValueError):
    """Keys that are right by themselves, and not together: raised by a model's validator.

    Parameters
    ----------
    location : the key that is to be changed, as a path from the model that validates
    """

    def __init__(self, message: str, *location: int | str) -> None:
        super().__init__(message)
        self.location = location


def held_strictly(info: ValidationInfo) -> bool:
    """Return whether what is validated is new, and not a specification that was taken before."""
    return bool((info.context or {}).get("strictly"))


def read_specification(
    text: str,
    kind: type[Specification],
    *,
    source: str,
    what: str,
    error: type[BadInputError] = BadInputError,
    strictly: bool = False,
) -> Specification:
    """Return what a YAML text specifies.

    Parameters
    ----------
    source : the file's name, for errors
    what : what it specifies and where that is described: "a monitor; see docs/monitors.md"
    error : raised with one line a problem, each as `file:line: key: what is wrong`
    strictly : a number must be written as one, and not as a text that looks like it; the
        model's validators ask `held_strictly`
    """
    try:
        node, document = read_yaml(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise error(
            f"{source}{where}: not YAML: {getattr(problem, 'problem', problem)}"
        ) from problem
    twice = _key_that_stands_twice(node)
    if twice is not None:
        line, place = twice
        raise error(f"{source}:{line}: {_key(place)}stands twice: keep one of them")
    if not isinstance(document, dict):
        raise error(f"{source}: a mapping of keys is expected, of {what}")
    try:
        found = kind.model_validate(document, context={"strictly": strictly})
    except ValidationError as refused:
        lines = [
            f"{source}:{_line(node, place)}: {_key(place)}{_words(problem)}"
            for problem in refused.errors()[:_MOST_PROBLEMS]
            for place in [_location(problem)]
        ]
        if refused.error_count() > _MOST_PROBLEMS:
            lines.append(f"{source}: {refused.error_count() - _MOST_PROBLEMS} more problems")
        raise error("\n".join(dict.fromkeys(lines))) from refused
    if strictly:
        lines = [
            f"{source}:{_line(node, place)}: {_key(place)}{written!r} was read as {read!r}: "
            f"write {read!r}"
            for place, written, read in _read_otherwise(document, found.model_dump(mode="json"))
            if isinstance(written, bool) or _is_quoted(node, place)
        ]
        if lines:
            raise error("\n".join(lines))
    return found


def read_yaml(text: str) -> tuple[yaml.Node | None, object]:
    """Return a YAML text's node, which knows its lines, and what it says.

    Raises
    ------
    yaml.YAMLError
        If it is none, or larger, deeper or fuller of aliases than any specification.
    """
    if len(text) > LARGEST_CHARACTERS:
        raise yaml.YAMLError(
            f"a specification has at most {LARGEST_CHARACTERS} characters, and this has {len(text)}"
        )
    loader = _BoundedLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except Exception as error:  # what a value provokes in a constructor
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def at_key(text: str, location: Location, *, source: str) -> str:
    """Return where a key of a specification that was read stands, as `file:line: key: `.

    Where the file leaves the key out, the line is that of the deepest one above it.
    """
    return f"{source}:{_line(read_yaml(text)[0], location)}: {_key(location)}"


def _is_quoted(node: yaml.Node | None, location: tuple[int | str, ...]) -> bool:
    """Return whether a value stands in quotes; without, YAML takes 1e-05 for a text, too."""
    *_, deepest = _nodes(node, location)
    return isinstance(deepest, yaml.ScalarNode) and deepest.style is not None


def _read_otherwise(
    written: object, read: Json, above: tuple[int | str, ...] = ()
) -> Iterator[tuple[tuple[int | str, ...], object, Json]]:
    """Yield where something else than a number was read as one: the place, and both."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from _read_otherwise(value, read.get(str(key)), (*above, str(key)))
    elif isinstance(written, list) and isinstance(read, list):
        for place, (value, one) in enumerate(zip(written, read, strict=False)):
            yield from _read_otherwise(value, one, (*above, place))
    elif isinstance(read, (bool, int, float)) and (
        isinstance(written, str) or isinstance(written, bool) != isinstance(read, bool)
    ):
        yield above, written, read


def _key_that_stands_twice(
    node: yaml.Node | None, above: tuple[int | str, ...] = ()
) -> tuple[int, tuple[int | str, ...]] | None:
    """Return line and path of a key that its mapping has already; YAML would take the last."""
    parts: list[tuple[int | str, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        parts = list(enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                return key.start_mark.line + 1, (*above, name)
            seen.add(name)
            parts.append((name, value))
    return next(
        filter(None, (_key_that_stands_twice(one, (*above, name)) for name, one in parts)), None
    )


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
    above = node
    for part, found in zip(location, _nodes(node, location)[1:], strict=False):
        if isinstance(above, yaml.MappingNode):
            line = next(
                key.start_mark.line + 1 for key, _ in above.value if key.value == str(part)
            )
        else:
            line = found.start_mark.line + 1
        above = found
    return line


def _nodes(node: yaml.Node | None, location: tuple[int | str, ...]) -> list[yaml.Node]:
    """Return a file's node and those on the way to a location, as far as the file has them."""
    found = [] if node is None else [node]
    for part in location:
        if isinstance(node, yaml.MappingNode):
            node = next((one for key, one in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
        else:
            node = None
        if node is None:
            break
        found.append(node)
    return found
