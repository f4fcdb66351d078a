"""Prints the chart's README: README.md.in, with the table of values made of values.yaml (`# -- ` comments and defaults) and
values.schema.json (types). `python readme.py > README.md`; it needs PyYAML."""

import json
import pathlib
import re
import sys

import yaml

HERE = pathlib.Path(__file__).parent


def comments(text):
    """What is said about each path: `# -- ` lines and those below, up to the key."""
    said, path, words = {}, [], []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# -- "):
            words = [bare[5:]]
        elif bare.startswith("# ") and words:
            words.append(bare[2:])
        elif key := re.match(r"^( *)([A-Za-z]+):", line):
            path = path[: len(key[1]) // 2] + [key[2]]
            if words:
                said[".".join(path)] = " ".join(words)
            words = []
        elif bare and not bare.startswith("#"):
            words = []
    return said


def rows(values, said, path=""):
    """Each path that is said something about with its default; a leaf without a word is a defect of values.yaml."""
    for key, value in values.items():
        here = f"{path}{key}"
        if here in said:
            yield here, value
        elif isinstance(value, dict) and value:
            yield from rows(value, said, f"{here}.")
        else:
            sys.exit(f"values.yaml says nothing about {here}")


def kind(schema, path):
    """The type of a value in words."""
    found = schema
    for key in path.split("."):
        found = resolve(schema, found["properties"][key])
    return " or ".join(dict.fromkeys(names(schema, found)))


def resolve(schema, found):
    while "$ref" in found:
        found = schema["definitions"][found["$ref"].rsplit("/", 1)[1]]
    return found


def names(schema, found):
    found = resolve(schema, found)
    if "enum" in found:
        return ["one of " + ", ".join(f"`{json.dumps(word).strip(chr(34))}`" for word in found["enum"] if word != "")]
    if "anyOf" in found:
        return [name for one in found["anyOf"] for name in names(schema, one)]
    types = found["type"]
    return types if isinstance(types, list) else [types]


def cell(text):
    return text.replace("|", "\\|")


def main():
    text = (HERE / "values.yaml").read_text()
    schema = json.loads((HERE / "values.schema.json").read_text())
    said = comments(text)
    table = ["| value | type | default | |", "|---|---|---|---|"]
    for path, value in rows(yaml.safe_load(text), said):
        default = f"`{cell(json.dumps(value, ensure_ascii=False))}`"
        table.append(f"| `{path}` | {cell(kind(schema, path))} | {default} | {cell(said[path])} |")
    before, after = (HERE / "README.md.in").read_text().split("<!-- values -->\n")
    sys.stdout.write(before + "\n".join(table) + "\n" + after)


main()
