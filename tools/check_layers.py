#!/usr/bin/env python3
"""Compares every #include between our folders with the dependencies that CMake declares.

A module may include: its own headers, and the public headers of the modules named by DEPENDS of its nebula_module().
Public is <module>/<module>.hpp and what EXTRA_PUBLIC names; everything else is private to its module. Tests may also
include headers of <module>/test_support/ of the modules they depend on; tests are *_test.cpp, *_dbtest.cpp,
*_fixture.hpp and test_support. Fuzzers may include private headers.
Also checked: levels (cmake/NebulaModule.cmake), a declared dependency nobody uses, includes that do not exist, cycles
of headers. Exits 1 with a list.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SRC = os.path.join(ROOT, "src")

# Foundations are toolboxes: all their headers are public.
ALL_PUBLIC = {"base", "async"}
EXTRA_PUBLIC = {
    "store": {"migrations.hpp", "notices.hpp", "node.hpp"},
    "accounts": {"caller.hpp", "guard.hpp", "audit.hpp", "people.hpp", "teams.hpp"},
    "billing": {"commerce.hpp", "bills.hpp", "bills/reconcile.hpp", "ledger/receipt.hpp"},
    "catalog": {"presets.hpp", "discovery.hpp", "provider_keys.hpp"},
    "records": {"stored_responses.hpp"},
    "http": {"client.hpp", "multipart.hpp", "sse.hpp", "json_api.hpp", "dialects.hpp"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def levels():
    text = read(os.path.join(ROOT, "cmake/NebulaModule.cmake"))
    block = re.search(r"set\(NEBULA_LEVELS([^)]*)\)", text)[1]
    return {name: int(level) for name, level in re.findall(r"(\w+)=(\d+)", block)}


def declared(module):
    path = os.path.join(SRC, module, "CMakeLists.txt")
    if not os.path.exists(path):
        return None
    call = re.search(r"nebula_module\(\s*" + module + r"\b([^)]*)\)", read(path))
    if not call:
        return None
    depends = re.search(r"\bDEPENDS\b(.*?)(?=\b(?:LIBRARIES|TEST_LIBRARIES)\b|$)", call[1], re.S)
    return set(depends[1].split()) if depends else set()


def sources(folder):
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != "node_modules")
        for name in sorted(names):
            if name.endswith((".cpp", ".hpp")):
                yield os.path.join(directory, name)


def is_test(path):
    endings = ("_test.cpp", "_dbtest.cpp", "_fixture.hpp", "/test_support.hpp")
    return path.endswith(endings) or "/tests/" in path or "/test_support/" in path


def is_public(module, header):
    return (module in ALL_PUBLIC or header == f"{module}.hpp" or header in EXTRA_PUBLIC.get(module, set()))


class Check:
    def __init__(self):
        self.level = levels()
        self.modules = sorted(d for d in os.listdir(SRC) if os.path.isdir(os.path.join(SRC, d)))
        self.depends = {}
        self.used = {}
        self.graph = {}
        self.problems = []

    def problem(self, path, text):
        self.problems.append(f"{os.path.relpath(path, ROOT)}: {text}")

    def declarations(self):
        for module in self.modules:
            folder = os.path.join(SRC, module)
            depends = declared(module)
            if module not in self.level:
                self.problem(folder, "has no level in cmake/NebulaModule.cmake")
            if depends is None:
                self.problem(folder, f"has no CMakeLists.txt with nebula_module({module} …)")
                depends = set()
            if not os.path.exists(os.path.join(folder, f"{module}.hpp")) and module not in ALL_PUBLIC:
                self.problem(folder, f"has no public header {module}.hpp")
            for other in sorted(depends):
                if other not in self.level:
                    self.problem(folder, f"depends on {other}, which is no module")
                elif self.level[other] >= self.level.get(module, 0):
                    self.problem(folder, f"depends on {other}, which is not below it")
            self.depends[module] = depends
            self.used[module] = set()

    def included_module(self, path, include):
        """Module of an include, or nothing when it is the file's own business."""
        head = include.split("/")[0]
        if head in self.modules:
            if not os.path.exists(os.path.join(SRC, include)):
                self.problem(path, f'includes "{include}", which does not exist')
                return None
            return head
        if not os.path.exists(os.path.join(os.path.dirname(path), include)):
            self.problem(path, f'includes "{include}", which is no file of ours')
        elif path.startswith(SRC):
            self.problem(path, f'includes "{include}": write the full path below src/')
        return None

    def module_file(self, module, path):
        for include in INCLUDE.findall(read(path)):
            other = self.included_module(path, include)
            if other is None:
                continue
            self.graph.setdefault(os.path.relpath(path, SRC), set()).add(include)
            if other == module:
                if not is_test(path) and "/test_support/" in include:
                    self.problem(path, f'includes "{include}", which is for tests only')
                continue
            header = include.split("/", 1)[1]
            self.used[module].add(other)
            if other not in self.depends[module]:
                self.problem(path, f'includes "{include}", but {module} does not declare DEPENDS {other}')
            if header.startswith("test_support/"):
                if not is_test(path):
                    self.problem(path, f'includes "{include}", which is for tests only')
            elif not is_public(other, header):
                self.problem(path, f'includes "{include}", which is private to {other}')

    def outside_file(self, path, allowed, may_look_inside):
        for include in INCLUDE.findall(read(path)):
            head = include.split("/")[0]
            if head not in self.modules:
                continue
            if not os.path.exists(os.path.join(SRC, include)):
                self.problem(path, f'includes "{include}", which does not exist')
            elif allowed is not None and head not in allowed:
                self.problem(path, f'may include only: {", ".join(sorted(allowed))}')
            elif not may_look_inside and not is_public(head, include.split("/", 1)[1]):
                self.problem(path, f'includes "{include}", which is private to {head}')

    def cycles(self):
        state = {}

        def visit(node, trail):
            state[node] = "open"
            for other in sorted(self.graph.get(node, ())):
                if state.get(other) == "open":
                    ring = trail[trail.index(other):] if other in trail else [node]
                    self.problems.append("cycle of headers: " + " → ".join([*ring, other]))
                elif other not in state:
                    visit(other, [*trail, other])
            state[node] = "done"

        for node in sorted(self.graph):
            if node not in state:
                visit(node, [node])

    def run(self):
        self.declarations()
        for module in self.modules:
            files = list(sources(os.path.join(SRC, module)))
            for path in files:
                self.module_file(module, path)
            if any(p.endswith(".cpp") for p in files):
                for other in sorted(self.depends[module] - self.used[module]):
                    self.problem(os.path.join(SRC, module, "CMakeLists.txt"), f"declares {other} and never uses it")
        self.outside_file(os.path.join(SRC, "main.cpp"), {"cli"}, False)
        for folder, inside in (("bench", False), ("test/fuzz", True)):
            if os.path.isdir(os.path.join(ROOT, folder)):
                for path in sources(os.path.join(ROOT, folder)):
                    self.outside_file(path, None, inside or "/micro/" in path or "/bench/billing/" in path)
        self.cycles()
        for problem in self.problems:
            print(problem)
        print(f"check_layers: {len(self.modules)} modules, {len(self.problems)} problems")
        return 1 if self.problems else 0


if __name__ == "__main__":
    sys.exit(Check().run())
