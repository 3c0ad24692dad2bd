"""The page at /docs: the OpenAPI document as plain HTML, so that it reads without a network and runs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

# What the examples say until there is an index to take objects from.
NOT_OPEN: dict[str, str | None] = {"id": "ID", "ids": "ID,ID", "columns": None}

# No script, style only from this page, nothing from elsewhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 3rem 0 .2rem; }
code, pre { font: .88em/1.5 ui-monospace, monospace; }
h2 code { font-size: 1rem; } .get { color: #2f7d6d; margin-right: .6em; }
pre { background: #8881; padding: .8rem 1rem; border-radius: .5rem; overflow: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .93rem; margin: .8rem 0; }
th { text-align: left; font-weight: 600; } td, th { padding: .4rem .9rem .4rem 0; border-bottom: 1px solid #8883;
vertical-align: top; } .quiet { opacity: .7; } details { margin: .6rem 0; } summary { cursor: pointer; }
"""


def render(document: dict[str, Any], address: str, examples: Mapping[str, str | None]) -> str:
    """The whole page for an OpenAPI document; its examples ask at `address`, as http://127.0.0.1:8000.

    examples : values for parameters in place of the document's, which are of no index; None leaves one out.
    """
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style>",
        f"<h1>{escape(info['title'])} API</h1><p class=quiet>version {escape(info['version'])} · ",
        "<a href=openapi.json>openapi.json</a></p>",
        f"<p>{escape(info['description'])}</p>",
    ]
    for path, methods in document["paths"].items():
        parts += [
            _operation(path, method, operation, document, address, examples) for method, operation in methods.items()
        ]
    return "".join(parts)


def _operation(
    path: str,
    method: str,
    operation: dict[str, Any],
    document: dict[str, Any],
    address: str,
    examples: Mapping[str, str | None],
) -> str:
    parameters = operation.get("parameters", [])
    rows = "".join(_parameter(parameter) for parameter in parameters)
    head = "<tr><th>parameter<th>in<th>type and limits<th>meaning"
    table = f"<div class=wide><table>{head}{rows}</table></div>" if rows else ""
    answers = "".join(
        f"<tr><td>{status}<td>{escape(answer['description'])}" for status, answer in operation["responses"].items()
    )
    example = escape(_example(address, path, parameters, examples))
    return (
        f"<h2><code><span class=get>{method.upper()}</span>{escape(path)}</code></h2>"
        f"<p>{escape(operation['summary'])}.</p><pre>{example}</pre>{table}"
        f"<details><summary>Answers</summary><table>{answers}</table>{_fields(operation, document)}</details>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    plain = next((kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"), schema)
    limits = f"{plain['minimum']} to {plain['maximum']}" if {"minimum", "maximum"} <= set(plain) else ""
    default = f"default {json.dumps(schema['default'])}" if schema.get("default") not in (None, "") else ""
    required = "required" if parameter.get("required") else ""
    kind = ", ".join(text for text in (plain.get("type", ""), limits, default, required) if text)
    cells = (parameter["name"], parameter["in"], kind, parameter.get("description") or schema.get("description", ""))
    return "<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in cells)


def _example(address: str, path: str, parameters: list[dict[str, Any]], examples: Mapping[str, str | None]) -> str:
    """A command that asks this, made from the parameters' examples."""
    query = []
    for parameter in parameters:
        name, of_any = parameter["name"], parameter["schema"].get("examples", parameter.get("examples", []))
        # One without an example stays away, even where another route's parameter of its name has one.
        value = examples.get(name, of_any[0]) if of_any else None
        if parameter["in"] == "path":
            path = path.replace("{" + name + "}", quote(str(value), safe=":"))
        elif value is not None:
            query.append(f"{name}={quote(str(value), safe=',:')}")
    return f"curl '{address}{path}{'?' + '&'.join(query) if query else ''}'"


def _fields(operation: dict[str, Any], document: dict[str, Any]) -> str:
    """The fields of a JSON answer, with their meaning."""
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    reference = content.get("schema", {}).get("$ref")
    if not reference:
        return ""
    model = document["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(field.get('description', ''))}"
        f"<td class=quiet>{escape(json.dumps(field['examples'][0]) if field.get('examples') else '')}"
        for name, field in model["properties"].items()
    )
    return f"<p>{escape(model.get('description', ''))}</p><table><tr><th>field<th>meaning<th>example{rows}</table>"
