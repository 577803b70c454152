"""Proves that no held-out question occurs in the training text. usage: check_heldout.py"""
import re
import sys

import corpus
import offtopic
from facts import ANSWERS, FACTS, heldout


def plain(text):
    return " ".join(re.sub(r"[^a-z0-9]+", " ", text.lower()).split())


def as_regex(pattern):
    """All expansions of a pattern, compared on plain() text."""
    out, depth = [], 0
    for name, body in corpus.MACROS.items():
        pattern = pattern.replace("[$" + name + "]", "[" + body + "]").replace("$" + name, "[" + body + "]")
    for part in re.split(r"(\[[^\[\]]*\])", pattern):
        if part.startswith("["):
            out.append("(?:" + "|".join(re.escape(plain(x)) for x in part[1:-1].split("|")) + ")")
        else:
            out.append(re.escape(plain(part)))
    return re.compile(r"\ *".join(x for x in out if x) + r"\Z")


def off_regex(frame):
    # a frame counts as the same question only with a trained subject in it
    subjects = (
        "(?:"
        + "|".join(sorted((re.escape(plain(s)) for s in offtopic.SUBJECTS), key=len, reverse=True))
        + ")"
    )
    parts = re.split(r"\{[a-z]?\}", frame)
    return re.compile((r"\ *" + subjects + r"\ *").join(re.escape(plain(p)) for p in parts) + r"\Z")


def main():
    regexes = [as_regex(p) for f in FACTS for p in f["patterns"]]
    regexes += [off_regex(f) for f in offtopic.FRAMES + offtopic.NEAR]
    # A trained prefix or suffix around a trained phrasing is a trained phrasing too.
    alternatives = lambda words: "|".join(re.escape(plain(w)) for w in sorted(words, key=len, reverse=True))
    pre = re.compile("^(?:" + alternatives(corpus.PREFIX) + r")\ ")
    post = re.compile(r"\ (?:" + alternatives(corpus.SUFFIX) + ")$")
    bad, seen = 0, set()
    for section in ("dev", "test"):
        cases = heldout(section)
        for intent, question in cases:
            p = plain(question)
            forms = {p, pre.sub("", p), post.sub("", p), post.sub("", pre.sub("", p))}
            if any(r.match(x) for r in regexes for x in forms) or p in seen or intent not in ANSWERS:
                print("IN TRAINING, DOUBLE OR WITHOUT ANSWER:", intent, question)
                bad += 1
            seen.add(p)
        off = sum(intent == "off" for intent, _ in cases)
        print(f"{section}: {len(cases) - off} phrasings, {off} off-topic questions")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
