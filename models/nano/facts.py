"""Reads facts.txt (what the model is taught) and heldout.txt (what it is asked)."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def parse_facts(path=os.path.join(HERE, "facts.txt")):
    """-> [{id, patterns, concepts, answer}]"""
    facts = []
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if not line or line[0] == "#":
            continue
        kind, body = line[0], line[2:]
        if kind == "=":
            facts.append({"id": body, "patterns": [], "concepts": [], "answer": None})
        elif kind == "?":
            facts[-1]["patterns"].append(body)
        elif kind == "+":
            facts[-1]["concepts"].append([g.strip().split("|") for g in body.split("&")])
        elif kind == "!":
            facts[-1]["answer"] = body.replace("\\n", "\n")
    assert all(f["answer"] for f in facts)
    assert len({f["id"] for f in facts}) == len(facts)
    return facts


ALL = parse_facts()
FACTS = [f for f in ALL if f["patterns"]]
ANSWERS = {f["id"]: f["answer"] for f in ALL}
REFUSAL, CODE_REFUSAL = ANSWERS["off"], ANSWERS["off_code"]


def heldout(section, path=os.path.join(HERE, "heldout.txt")):
    """The questions of a section: [(intent, question)]; the intent is "off" where a refusal is right."""
    if not os.path.exists(path):
        return []
    out, current = [], None
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line.startswith("["):
            current = line[1:-1]
        elif line and line[0] != "#" and current == section:
            out.append(tuple(line.split(": ", 1)))
    return out
