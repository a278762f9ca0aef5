#!/usr/bin/env python3
"""Prints the copyright file of the package: our licence, and those of the crates that are linked into the library.

Usage: copyright.py FEATURE. Apache's licence is left to /usr/share/common-licenses, where Debian wants it.
"""

import json
import pathlib
import re
import subprocess
import sys

host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
metadata = json.loads(subprocess.check_output(
    ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={host}",
     "--no-default-features", f"--features={sys.argv[1]}"]))
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def linked(package):
    """What compiles or builds a crate is not linked: no dev- or build-dependencies, no macros."""
    found, left = set(), [package]
    while left:
        current = left.pop()
        if current in found or any("proc-macro" in target["kind"] for target in packages[current]["targets"]):
            continue
        found.add(current)
        left += [dep["pkg"] for dep in nodes[current]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    return found


def licences(crate):
    """The notices of a crate, and the texts that they stand above."""
    notices, texts = [], []
    for file in sorted(pathlib.Path(crate["manifest_path"]).parent.rglob("*")):
        named = re.match(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE)", file.name.upper()) or file.parent.name == "LICENSES"
        if not named or not file.is_file():
            continue
        text = file.read_text(errors="replace")
        own = [line.strip() for line in text.splitlines() if re.match(r"\s*Copyright (\(c\)|©|\d)", line, re.I)]
        notices += [line for line in own if line not in notices and not re.search(r"\[|<year>", line)]
        if "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" not in text:
            body = [line.rstrip() for line in text.splitlines() if line.strip() not in own]
            texts.append("\n".join(body).strip())
    return notices or ["Copyright " + ", ".join(crate["authors"] or ["the authors of " + crate["name"]])], texts


ours = {package["id"] for package in metadata["packages"] if package["source"] is None}
root = metadata["resolve"]["root"]
print("api_tokens\n\n" + pathlib.Path("LICENSE").read_text())
print("Linked into its library are the Rust standard library, Copyright The Rust Project Developers (MIT OR\n"
      "Apache-2.0), and these crates of crates.io. Apache-2.0 is in /usr/share/common-licenses/Apache-2.0; the other\n"
      "texts follow, each once.\n")
texts = {}
for crate in sorted((packages[package] for package in linked(root) - ours), key=lambda c: (c["name"], c["version"])):
    notices, bodies = licences(crate)
    print(f"{crate['name']} {crate['version']}: {crate['license']}")
    print("".join(f"    {notice}\n" for notice in notices))
    for body in bodies:
        texts.setdefault(" ".join(body.split()).lower(), body)
print("\n\n----\n\n".join(text for key, text in sorted(texts.items()) if len(key) > 200))
