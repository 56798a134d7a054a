"""The text of a map: parsing it, with errors that name the line and the column, and writing it.

A map is rows of symbols, one character a cell. After a blank line may come, in any order::

    A: leads_to=B, leaving_reward=10     the tile that a symbol stands for (the fields of Tile; a flag alone is true)
    reward_step = -1                     an option of GridWorld that belongs to the map, or its name
    # anything                           a comment: # and a space

Numbers may be fractions (``slip = 2/3``); text needs double quotes where it is not one plain word.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridzero.envs.grid.layouts import validation
from gridzero.envs.grid.layouts.tiles import DEFAULT_LEGEND, Tile, check_symbol, is_number

MAX_CELLS = 1 << 24
SLIPS = ("perpendicular", "any", "backward", "stay")
SETTINGS = (
    "reward_step",
    "reward_target",
    "reward_forbidden",
    "reward_boundary",
    "forbidden_enterable",
    "target_terminal",
    "actions",
    "slip",
    "slip_to",
    "start",
)
"""The options of GridWorld that a map may bring along."""

_TILE_FIELDS = tuple(field.name for field in fields(Tile) if field.name != "symbol")
_FLAGS = ("blocks", "target", "forbidden", "ends", "start")
_NUMBERS = ("reward", "leaving_reward")
_PLAIN = re.compile(r"[A-Za-z][\w:-]*(?: [\w:-]+)*")
_FRACTION = re.compile(r"(-?\d{1,15})\s*/\s*(\d{1,15})")
_PROPERTY = re.compile(r'\s*(?P<key>[^=,"(]*?)\s*(?:=\s*(?P<value>"(?:[^"\\]|\\.)*"|\([^)]*\)|[^,]*?))?\s*(?:,|$)')


@dataclass(frozen=True)
class ParsedMap:
    """Contents of a map's text: the arguments of ``Layout``."""

    cells: NDArray[np.uint8]
    legend: tuple[Tile, ...]
    name: str
    settings: dict[str, Any]


def parse(text: str, name: str = "custom") -> ParsedMap:
    """Read a map.

    Args:
        text: rows, then optionally a blank line, tiles and settings, as the module describes.
        name: what the map is called if it does not say.

    Raises:
        ValueError: for whatever cannot be read; it starts with the line and the column, counted from 1.
    """
    lines = re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff"))
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise _error(0, 0, "the map is empty; write rows of symbols, such as S..G")
    end = next((i for i in range(first, len(lines)) if not lines[i].strip()), len(lines))
    tiles = {tile.symbol: tile for tile in DEFAULT_LEGEND}
    settings: dict[str, Any] = {}
    defined: dict[str, int] = {}
    for number in range(end, len(lines)):
        line = lines[number]
        entry, indent = line.strip(), _indent(line)
        if not entry or entry == "#" or entry.startswith("# "):
            continue
        if entry[1:2] == ":":
            key, value = entry[0], _parse_tile(line, number, indent)
            tiles[key] = value
        elif "=" in entry:
            key, value = _parse_setting(line, number, indent)
            settings[key] = value
        else:
            what = "neither a tile (`A: blocks`) nor a setting (`slip = 0.1`) nor a comment (`# …`)"
            raise _error(number, indent, f"{entry[:40]!r} is {what}")
        if key in defined:
            raise _error(number, indent, f"{key!r} was already given in line {defined[key] + 1}")
        defined[key] = number
    legend = tuple(tiles.values())
    cells = _parse_rows(lines[first:end], first, legend)
    problem = validation.tile_problem(cells, legend)
    if problem is not None:
        line = defined.get(problem[0] or "", first)
        raise _error(line, _indent(lines[line]), problem[1])
    beyond = validation.unreachable_target(cells, legend)
    if beyond is not None:
        line = first + beyond[0]
        raise _error(line, _indent(lines[line]) + beyond[1], "no start can reach this target, nor any other")
    return ParsedMap(cells, legend, settings.pop("name", name), settings)


def _parse_rows(rows: list[str], first: int, legend: tuple[Tile, ...]) -> NDArray[np.uint8]:
    if len(legend) > 256:
        raise ValueError(f"a map has at most 256 kinds of tiles, not {len(legend)}")
    width = len(rows[0].strip())
    if len(rows) * width > MAX_CELLS:
        raise ValueError(f"a map has at most {MAX_CELLS:,} cells; {len(rows)}x{width} are more")
    codes = np.array([ord(tile.symbol) for tile in legend], dtype=np.uint32)
    order = np.argsort(codes)
    cells = np.empty((len(rows), width), dtype=np.uint8)
    for number, line in enumerate(rows):
        row = line.strip()
        indent = _indent(line)
        written = np.frombuffer(row.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        indices = order[np.minimum(np.searchsorted(codes, written, sorter=order), len(codes) - 1)]
        wrong = np.flatnonzero(codes[indices] != written)
        if wrong.size:
            column = int(wrong[0])
            raise _error(first + number, indent + column, _unknown_symbol(row[column], legend))
        if len(row) != width:
            column = indent + min(len(row), width)
            raise _error(first + number, column, f"this row has {len(row)} cells, the first has {width}")
        cells[number] = indices
    return cells


def _unknown_symbol(symbol: str, legend: tuple[Tile, ...]) -> str:
    if symbol.isspace():
        return "a space is not a cell; write . for a free one, and a blank line before tiles and settings"
    known = " ".join(tile.symbol for tile in legend)
    return f"{symbol!r} is not a known symbol; there are {known} (a line `{symbol}: …` after a blank line adds it)"


def _parse_tile(line: str, number: int, indent: int) -> Tile:
    symbol = line[indent]
    try:
        check_symbol(symbol)
    except ValueError as error:
        raise _error(number, indent, str(error)) from None
    properties: dict[str, Any] = {}
    position = indent + 2
    text = line.rstrip()
    while position < len(text):
        match = _PROPERTY.match(text, position)
        if match is None or match.end() == position:
            raise _error(number, position, f"cannot read {text[position:][:40].strip()!r}; write key=value, …")
        key, value, column = match["key"], match["value"], match.start("key")
        if key not in _TILE_FIELDS:
            raise _error(number, column, f"a tile has no property {key!r}; there are {', '.join(_TILE_FIELDS)}")
        if key in properties:
            raise _error(number, column, f"{key} is given twice")
        try:
            properties[key] = _tile_value(key, value)
        except ValueError as error:
            raise _error(number, column if value is None else match.start("value"), str(error)) from None
        position = match.end()
    standard = {tile.symbol: tile.name for tile in DEFAULT_LEGEND}
    try:
        return Tile(symbol, properties.pop("name", standard.get(symbol, symbol)), **properties)
    except ValueError as error:
        raise _error(number, indent, str(error)) from None


def _tile_value(key: str, text: str | None) -> Any:
    if key in _FLAGS:
        if text not in (None, "true", "false"):
            raise ValueError(f"{key} must be true or false, not {text!r}")
        return text != "false"
    if not text:
        raise ValueError(f"{key} needs a value, {key}=…")
    if key in _NUMBERS:
        return _number(key, text)
    if key == "wind":
        match = re.fullmatch(r"\(\s*(-?\d{1,6})\s*,\s*(-?\d{1,6})\s*\)", text)
        if match is None:
            raise ValueError(f"wind must be (rows, columns), such as (-1, 0) for one cell up, not {text!r}")
        return int(match[1]), int(match[2])
    value = _string(text)
    if key in ("sends_to", "leads_to"):
        check_symbol(value)
    return value


def _parse_setting(line: str, number: int, indent: int) -> tuple[str, Any]:
    left, _, right = line.partition("=")
    key, text = left.strip(), right.strip()
    if key != "name" and key not in SETTINGS:
        raise _error(number, indent, f"a map has no setting {key!r}; there are name, {', '.join(SETTINGS)}")
    column = len(left) + 1 + len(right) - len(right.lstrip())
    try:
        value = _setting_value(key, text)
        if key == "name":
            if not isinstance(value, str) or not value:
                raise ValueError(f"name must be text, not {text!r}")
        else:
            check_setting(key, value)
    except ValueError as error:
        raise _error(number, column, str(error)) from None
    return key, value


def _setting_value(key: str, text: str) -> Any:
    if not text:
        raise ValueError(f"{key} needs a value, {key} = …")
    if _FRACTION.fullmatch(text):
        return _number(key, text)
    if key == "name" and not text.startswith('"'):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if _PLAIN.fullmatch(text):
        return text
    raise ValueError(f'cannot read {text[:40]!r}; write a number, true, false, null, a word, [row, column] or "text"')


def check_setting(key: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``key`` is a setting of a map and ``value`` one of its values."""
    if key not in SETTINGS:
        raise ValueError(f"a map has no setting {key!r}; there are {', '.join(SETTINGS)}")
    if key.startswith("reward"):
        allowed, fine = "a finite number", is_number(value)
    elif key == "slip":
        allowed, fine = "a probability, 0 to 1", is_number(value) and 0 <= value <= 1
    elif key == "actions":
        allowed, fine = "4, 5 or 8", is_number(value) and value in (4, 5, 8)
    elif key == "slip_to":
        allowed, fine = f"one of {', '.join(SLIPS)}", value in SLIPS
    elif key == "start":
        allowed = "null, random, a state's number or [row, column]"
        pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(_is_index(i) for i in value)
        fine = value is None or value == "random" or _is_index(value) or pair
    else:
        allowed, fine = "true or false", isinstance(value, bool)
    if not fine:
        raise ValueError(f"{key} must be {allowed}, not {value!r}")


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(key: str, text: str) -> float:
    fraction = _FRACTION.fullmatch(text)
    try:
        value = int(fraction[1]) / int(fraction[2]) if fraction else float(text)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number, not {text!r}")
    return value


def _string(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(
            f"cannot read the text {text[:40]}; it needs a closing quote, and backslashes as in JSON"
        ) from None
    return str(value)


def write(cells: NDArray[np.uint8], legend: tuple[Tile, ...], name: str, settings: Mapping[str, Any]) -> str:
    """The text that :func:`parse` reads back as the same map; standard tiles are left to the default legend."""
    symbols = np.array([ord(tile.symbol) for tile in legend], dtype="<u4")
    lines = [row.tobytes().decode("utf-32-le") for row in symbols[cells]]
    lines += ["", f"name = {json.dumps(name, ensure_ascii=False)}"]
    lines += [_write_tile(tile) for tile in legend if tile not in DEFAULT_LEGEND]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _write_tile(tile: Tile) -> str:
    parts = [f"name={json.dumps(tile.name, ensure_ascii=False)}"]
    for field in fields(Tile):
        value = getattr(tile, field.name)
        if field.name in ("symbol", "name") or value == field.default:
            continue
        if field.name in _FLAGS:
            parts.append(field.name)
        elif isinstance(value, str):
            parts.append(f"{field.name}={json.dumps(value, ensure_ascii=False)}")
        elif field.name == "wind":
            parts.append(f"wind=({value[0]}, {value[1]})")
        else:
            parts.append(f"{field.name}={float(value)!r}")
    return f"{tile.symbol}: {', '.join(parts)}"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _error(line: int, column: int, what: str) -> ValueError:
    return ValueError(f"line {line + 1}, column {column + 1}: {what}")
