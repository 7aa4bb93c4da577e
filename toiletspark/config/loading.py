"""Reads the configuration: conf/base.toml, then the user's files, then `--set key=value`."""

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from toiletspark.config import Config
from toiletspark.errors import ConfigError, nearest, shown

_ENVIRONMENT = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def load(files: Iterable[str | Path] = (), sets: Iterable[str] = ()) -> Config:
    """Reads TOML files (later ones win), then `sets`, "section.key=value" texts.

    Each file holds only what differs from conf/base.toml. A value of `sets` that is not TOML is a
    string. Raises ConfigError if a file cannot be read, a key is unknown or a value does not fit.
    """
    names: list[str] = []
    try:
        values = tomllib.loads(base_text())
        for file in files:
            names.append(str(file))
            _merge(values, _read(Path(file)))
        for text in sets:
            names.append(f"--set {text}")
            _merge(values, _parse_set(text))
        return Config.model_validate(_with_environment(values))
    except ValidationError as error:
        raise _explained(error, names) from None
    except RecursionError:
        raise ConfigError(
            doing=f"reading the configuration ({shown(names)})",
            expected="sections, keys and values as conf/base.toml has them",
            found="lists or tables in each other, hundreds deep",
            todo="correct the file, or the value of --set",
        ) from None


def base_text() -> str:
    """The text of conf/base.toml."""
    return (conf_folder() / "base.toml").read_text(encoding="utf-8")


def conf_folder() -> Traversable:
    """The folder conf/ in the package; in a checkout, a link to the folder at the top."""
    return resources.files("toiletspark") / "conf"


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the configuration, sections included."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{key}.")


def _read(file: Path) -> dict[str, Any]:
    doing = f"reading the configuration {file}"
    try:
        if file.suffix == ".json":  # a resolved configuration, as manifests hold it
            resolved = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(resolved, dict):
                raise json.JSONDecodeError("not an object", str(file), 0)
            return resolved
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            doing=doing,
            expected="a file that can be read",
            found=error.strerror or str(error),
            todo="check the path; conf/mytables.example.toml is a start",
        ) from None
    except ValueError as error:  # TOML, JSON, UTF-8, or a number with thousands of digits
        toml = "TOML (https://toml.io)"
        raise ConfigError(
            doing=doing, expected=toml, found=str(error), todo="correct that line"
        ) from None


def _parse_set(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            doing=f"reading --set {text}",
            expected="section.key=value, as in --set sample.size=20000",
            found="no '='" if not equals else "no key before the '='",
            todo="write the key, an equals sign and the value",
        )
    for toml in (value, json.dumps(value, ensure_ascii=False)):  # TOML, else a plain string
        with contextlib.suppress(ValueError):
            return tomllib.loads(f"{key} = {toml}")
    raise ConfigError(
        doing=f"reading --set {text}",
        expected='a key of TOML, as in sample.size or spark.settings."spark.executor.memory"',
        found=f"the key {key!r}",
        todo="put quotes around a part that holds dots or blanks",
    )


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Updates `values` in place, table by table; lists and plain values are replaced."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _with_environment(value: Any) -> Any:
    """Replaces ${NAME} and ${NAME:-default} in every string; checks that numbers have 64 bits."""
    if isinstance(value, dict):
        return {key: _with_environment(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError(
            doing="reading the configuration",
            expected="whole numbers of at most 64 bits",
            found=f"one of {value.bit_length()} bits",
            todo="write fewer digits",
        )
    return _ENVIRONMENT.sub(_from_environment, value) if isinstance(value, str) else value


def _from_environment(match: re.Match[str]) -> str:
    name, default = match.groups()
    value = os.environ.get(name) or default
    if value is None:
        raise ConfigError(
            doing="reading the configuration",
            expected=f"the environment variable {name}, which a value names",
            found="it is not set",
            todo=f"export {name}=..., or write ${{{name}:-default}}",
        )
    return value


def _explained(error: ValidationError, names: list[str]) -> ConfigError:
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"unknown key '{key}'{nearest(key, known_keys())}")
        elif isinstance(problem["input"], dict) or "storage_options" in problem["loc"]:
            problems.append(f"{key}: {problem['msg']}")  # sections may hold secrets
        else:
            problems.append(f"{key} = {problem['input']!r}: {problem['msg']}")
    return ConfigError(
        doing=f"reading the configuration ({', '.join(names) or 'conf/base.toml'})",
        expected="the keys and values that conf/base.toml explains",
        found="; ".join(problems),
        todo="correct the keys named above",
    )
