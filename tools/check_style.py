#!/usr/bin/env python3
"""House rules that a formatter cannot know: banned words with their replacements, sizes, coroutine
traps, dead links.

    tools/check_style.py [FILE …]      without files: everything that git knows or would add

A line that must break a rule says so at its end: "style: allow" and why. Exits 1 with a list.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = (".cpp", ".hpp", ".mjs", ".py", ".cmake", ".sh", ".sql")
CPP = (".cpp", ".hpp")
TEXT = CODE + (".md", ".txt", ".toml", ".json", ".yaml", ".yml", "Makefile", "run")
COLUMNS_MAX = {".cpp": 110, ".hpp": 110, ".mjs": 140, ".py": 120, ".cmake": 120, "CMakeLists.txt": 120, ".sh": 120}
LINES_MAX = 1000
ALLOW = "style: allow"
OWN = ("tools/check_style.py", "tools/checks_test.py")
# Data: corpora and generated locks are not written by the line.
DATA = re.compile(r"(^|/)package-lock\.json$|^models/nano/.*\.(txt|json)$|^LICENSE$")


def in_cpp(path):
    return path.endswith(CPP)


def in_src(path):
    return path.startswith("src/") and path.endswith(CPP)


def in_product(path):
    return in_src(path) and not re.search(r"_(test|dbtest)\.cpp$|_fixture\.hpp$|/test_support|/tests/", path)


def in_code(path):
    return path.endswith(CODE + ("CMakeLists.txt", "Makefile"))


def anywhere(_path):
    return True


# Pattern, where, what to write instead.
BANNED = [
    (r"\bthis_thread::sleep|\bsleep_for\b|\busleep\(|[^_\w]sleep\(\d", in_cpp,
     "wait for the condition itself (Completion, sleep_until on an injected clock, poll with a deadline)"),
    (r"\.detach\(\)", in_cpp, "TaskGroup::spawn, or a thread that is joined"),
    (r"\bco_spawn\b", in_product, "TaskGroup::spawn"),
    (r"\bstd::cout\b", in_src, "LOG_… for events; std::printf in cli and app for answers to a person"),
    (r"\b[Ss][Ee][Ll][Ee][Cc][Tt] \*", in_cpp, "the names of the columns"),
    (r"\bsystem_clock::now\b", lambda p: in_cpp(p) and p.startswith("src/") and p != "src/base/clock.cpp",
     "the injected nebula::Clock"),
    (r"\bstd::rand\(|[^_\w.:]rand\(\)", in_cpp, "base/crypto.hpp for secrets, a seeded std::mt19937_64 in tests"),
    (r"\busing namespace std;", in_cpp, "the full name"),
    (r"\b(double|float)\b", lambda p: p.startswith("src/billing/") and in_product(p), "Nanos: money is whole"),
    (r"\b(TODO|FIXME|XXX|HACK)\b", in_code, "do it now, or file an issue and name its number"),
    (r"\.only\(", lambda p: p.endswith(".mjs"), "the whole suite"),
    (r"\bnpmjs\.|\bpypi\.org|pythonhosted\.|\bcrates\.io|\bdeb\.debian\.org|\bdocker\.io|\bghcr\.io|yarnpkg\.",
     anywhere, "nothing: package clients know their registries"),
    (r"(?:^|[\s\"'(=`])/(?:work|home|Users|root)/\w|\.\./shared/", anywhere,
     "a path inside the repository; nobody else has that folder"),
]
BANNED = [(re.compile(pattern), where, instead) for pattern, where, instead in BANNED]
CAPTURING_LAMBDA = re.compile(
    r"\[[^\[\]]+\]\s*\([^()]*(?:\([^()]*\)[^()]*)*\)\s*(?:mutable\s*)?->\s*(?:\w+::)*Async<[^{}]*\{")


class Check:
    def __init__(self):
        self.problems = []

    def problem(self, path, line, text):
        self.problems.append(f"{path}:{line}: {text}")

    def lines(self, path, text):
        ending = os.path.basename(path) if path.endswith("CMakeLists.txt") else os.path.splitext(path)[1]
        limit = COLUMNS_MAX.get(ending)
        if DATA.search(path):
            return
        lines = text.split("\n")
        if path.endswith(CODE) and len(lines) > LINES_MAX:
            self.problem(path, len(lines), f"{len(lines)} lines; split above {LINES_MAX}")
        for number, line in enumerate(lines, 1):
            if ALLOW in line:
                continue
            # A literal that stands for itself is not cut.
            if limit and len(line) > limit and 'R"' not in line:
                self.problem(path, number, f"{len(line)} columns; at most {limit}")
            if line.endswith((" ", "\t", "\r")) and not path.endswith(".md"):
                self.problem(path, number, "white space at the end of the line")
            if path in OWN:
                continue
            for pattern, where, instead in BANNED:
                found = pattern.search(line)
                if found and where(path):
                    self.problem(path, number, f'"{found[0].strip()}": write {instead}')
        if not text.endswith("\n") and text:
            self.problem(path, len(lines), "the last line does not end")

    def header(self, path, text):
        if not re.search(r"^#pragma once$", text, re.M):
            self.problem(path, 1, "a header begins with #pragma once")

    def links(self, path, text):
        for found in re.finditer(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", re.sub(r"`[^`\n]*`", "", text)):
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), found[1])):
                self.problem(path, line_of(text, text.find(found[0])), f"links to {found[1]}, which does not exist")

    def coroutines(self, path, text):
        code = blank_out(text)
        # A coroutine lambda's captures die with the lambda, not with the coroutine. (Routes of a test outlive calls.)
        for found in CAPTURING_LAMBDA.finditer(code) if in_product(path) else ():
            if "co_" in body_behind(code, found.end()):
                self.problem(path, line_of(code, found.start()), "a coroutine lambda with captures: write a member "
                             "function, or pass the values as parameters")
        # Temporaries in braces and lambdas inside a co_await expression: bind them to a name one line above.
        for found in re.finditer(r"(?<!operator )\bco_await\b", code):
            expression = await_expression(code, found.end())
            if "{" in expression:
                self.problem(path, line_of(code, found.start()),
                             "braces inside a co_await expression: give the value a name on the line above")

    def file(self, path):
        try:
            with open(os.path.join(ROOT, path), encoding="utf-8", newline="") as f:
                text = f.read()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            return
        self.lines(path, text)
        if path.endswith(".hpp"):
            self.header(path, text)
        if path.endswith(".md"):
            self.links(path, text)
        if path.endswith(CPP):
            self.coroutines(path, text)


def blank_out(text):
    """Comments, strings and characters become spaces, so that braces in them do not count."""
    def spaces(found):
        if found[0][0] == "'" and found.start() > 0 and text[found.start() - 1].isalnum():
            return found[0]  # a digit separator
        return re.sub(r"[^\n]", " ", found[0])
    return re.sub(r'R"(\w*)\([\s\S]*?\)\1"|//[^\n]*|/\*[\s\S]*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
                  spaces, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def body_behind(code, start):
    depth = 1
    for position in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[position], 0)
        if depth == 0:
            return code[start:position]
    return code[start:]


def await_expression(code, start):
    depth = 0
    for position in range(start, min(len(code), start + 2000)):
        character = code[position]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth < 0:
                return code[start:position]
        elif character in ";?" and depth == 0:
            return code[start:position]
        elif character == "," and depth == 0:
            return code[start:position]
    return code[start:start + 2000]


def known_files():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True,
                            check=False)
    if listed.returncode == 0:
        return sorted(p for p in listed.stdout.decode().split("\0") if p)
    found = []
    for directory, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in ("node_modules", ".git", "data") and not f.startswith("build")]
        found += [os.path.relpath(os.path.join(directory, n), ROOT) for n in names]
    return sorted(found)


def main():
    chosen = [os.path.relpath(os.path.abspath(p), ROOT) for p in sys.argv[1:]]
    files = [p for p in chosen or known_files() if p.endswith(TEXT)]
    check = Check()
    for path in files:
        check.file(path)
    for problem in check.problems:
        print(problem)
    print(f"check_style: {len(files)} files, {len(check.problems)} problems")
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
