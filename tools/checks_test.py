#!/usr/bin/env python3
"""The checks catch what they are for, and let pass what is right. Every rule stands here with one line of each."""

import sys
import unittest

import check_layers
import check_style
import run_tests


def style(path, text):
    check = check_style.Check()
    check.lines(path, text)
    if path.endswith(".hpp"):
        check.header(path, text)
    if path.endswith(check_style.CPP):
        check.coroutines(path, text)
    return check.problems


class Style(unittest.TestCase):
    def test_refuses_what_the_house_does_not_write(self):
        for path, line in [
            ("src/a/a.cpp", "std::this_thread::sleep_for(1s);"),
            ("src/a/a.cpp", "thread.detach();"),
            ("src/a/a.cpp", "std::cout << 1;"),
            ("src/a/store.cpp", '"SELECT * FROM t"'),
            ("src/a/a.cpp", "auto now = std::chrono::system_clock::now();"),
            ("src/a/a.cpp", "// TO" + "DO later"),
            ("src/billing/a.cpp", "double price = 1;"),
            ("test/journeys/a.test.mjs", "test.only('x', () => {});"),
            ("docs/a.md", "see /ho" + "me/somebody/notes"),
            ("src/a/a.cpp", "x;  "),
            ("src/a/a.cpp", "// " + "x" * 110),
            ("src/a/a.cpp", "auto x = co_await charge({key, 5});"),
            ("src/a/a.cpp", "auto x = co_await run([s] { return s; });"),
            ("src/a/a.cpp", "auto f = [this](int a) -> Async<void> { co_await b(a); };"),
            ("src/a/a.hpp", "int a;"),
        ]:
            self.assertTrue(style(path, line + "\n"), line)
        self.assertTrue(style("src/a/a.cpp", "x;\n" * 1001))

    def test_lets_pass_what_is_right(self):
        for path, line in [
            ("src/base/clock.cpp", "auto now = std::chrono::system_clock::now();"),
            ("src/a/a.cpp", "std::system_clock::now();  // style: allow: a reason"),
            ("src/a/a.cpp", "if (auto x = co_await read(); !x) { return; }"),
            ("src/a/a.cpp", 'auto x = co_await send("{}");  // {braces}'),
            ("src/a/a.cpp", "auto f = [this](int a) -> Async<void> { return b(a); };"),
            ("src/a/a.cpp", "auto f = [](int a) -> Async<void> { co_await b(a); };"),
            ("src/a/a_test.cpp", "auto f = [&](int a) -> Async<void> { co_await b(a); };"),
            ("src/a/a.cpp", "int n = 1'000'000; char c = '{'; co_await b;"),
            ("src/a/a.hpp", "#pragma once"),
        ]:
            self.assertEqual(style(path, line + "\n"), [], line)


class Layers(unittest.TestCase):
    def problems(self, path, include):
        check = check_layers.Check()
        check.modules = ["base", "http", "gateway"]
        check.depends = {"base": set(), "http": {"base"}, "gateway": {"base", "http"}}
        check.used = {name: set() for name in check.modules}
        check_layers.read = lambda _path: f'#include "{include}"\n'
        try:
            check.module_file(path.split("/")[0], f"{check_layers.SRC}/{path}")
        finally:
            check_layers.read = READ
        return check.problems

    def test_arrows_go_down_to_public_headers_only(self):
        self.assertEqual(self.problems("gateway/chat.cpp", "http/http.hpp"), [])
        self.assertEqual(self.problems("gateway/chat.cpp", "base/text.hpp"), [])
        self.assertEqual(self.problems("http/parser.cpp", "http/parser.hpp"), [])
        self.assertTrue(self.problems("gateway/chat.cpp", "http/parser.hpp"))
        self.assertTrue(self.problems("http/parser.cpp", "gateway/gateway.hpp"))
        self.assertTrue(self.problems("base/text.cpp", "http/http.hpp"))
        self.assertTrue(self.problems("gateway/chat.cpp", "http/no_such.hpp"))
        self.assertTrue(self.problems("gateway/chat.cpp", "chat.hpp"))

    def test_a_cycle_is_found(self):
        check = check_layers.Check()
        check.graph = {"a.hpp": {"b.hpp"}, "b.hpp": {"c.hpp"}, "c.hpp": {"a.hpp"}}
        check.cycles()
        self.assertEqual(len(check.problems), 1)


class Counts(unittest.TestCase):
    def test_node_reporters_are_read(self):
        for text in ("ℹ tests 4\nℹ pass 3\nℹ fail 1\nℹ cancelled 2\nℹ skipped 5\n",
                     "# tests 4\n# pass 3\n# fail 1\n# cancelled 2\n# skipped 5\n"):
            outcome = run_tests.Outcome()
            run_tests.read_node("", text, outcome)
            self.assertEqual((outcome.passed, outcome.failed, outcome.skipped), (3, 3, 5))


READ = check_layers.read

if __name__ == "__main__":
    sys.exit(unittest.main())
