"""The text that nebula-nano learns from: facts.txt (phrasings and answers) and offtopic.py, varied by chance.
`sample(rng)` gives one question with its answer; `conversation(rng)` a whole chat. Same seed, same text."""
import random
import re

import offtopic
from facts import FACTS

MACROS = {
    "HOW": "how do i|how do i|how can i|how to|how would i|how do you|how does one|what is the way to|"
    "what's the best way to|what do i do to|i want to|i need to|i would like to|can you explain how to|"
    "show me how to|"
    "tell me how to|"
    "is there a way to|can i|could i|is it possible to|what are the steps to|help me|please help me|"
    "what do i type to|which command do i use to|i am trying to|what must i do to|how should i|where can i|"
    "teach me to|walk me through how to|explain how i can|any idea how to|what should i do to|"
    "do you know how to",
}
PREFIX = [
    "please tell me",
    "can you tell me",
    "could you tell me",
    "hey",
    "hi",
    "hello",
    "quick question:",
    "i want to know",
    "i would like to know",
    "sorry,",
    "so",
    "and",
    "ok",
    "well,",
    "also",
    "question:",
    "tell me",
    "excuse me,",
    "do you know",
    "one more thing:",
    "i wonder",
    "just asking,",
    "i'm new here,",
    "please",
    "now",
    "but",
    "next question:",
    "my boss asks:",
    "somebody asked me",
    "honestly,",
    "let me ask:",
]
SUFFIX = [
    "please",
    "thanks",
    "thank you",
    "in short",
    "exactly",
    "by the way",
    "right now",
    "for me",
    "again",
    "here",
    "in nebula",
    "with nebula",
    "in this system",
    "on my machine",
    "on this server",
    "if i may ask",
    "then",
    "actually",
    "in detail",
    "step by step",
    "today",
    "on linux",
    "please explain",
    "in a few words",
]
END = ["", "", "", "?", "?", "?", "?", ".", "!", "??", " ?", "...", "?!", " please?", " pls"]
GLUE = (
    """
the a an my our your for of with about to in is do does are was be been can could would will shall i we
you it he she they some any this that these those and or but on at from by as not no yes get got use used
want need have has had there here now then when where why who which how what know find more much many very
so if suppose after before while still already ever else other another thing things way place time day
today please just really exactly actually want like would like should must may might let tell say said
think see look give take make put come go work works working say mean help try keep show us me them him
her its their one two first last next same new old good bad right wrong possible sure able box team
project office friend colleague question answer regarding inside outside under over up down out off again
also only even something somebody anything everything nothing i'd i'm it's don't can't won't doesn't isn't
what's we're they're i've box kind sort between without within through during because since until though
""".split()
    + [""] * 40
)
FRAME = [
    "",
    "",
    "",
    "how do i",
    "how can i",
    "how to",
    "what is",
    "what about",
    "where is",
    "tell me about",
    "explain",
    "is there",
    "can i",
    "do i",
    "does it",
    "what does",
    "show me",
    "i need",
    "i want",
    "which",
    "why",
    "when",
    "give me",
    "are there",
    "help with",
    "question about",
    "information on",
    "what happens with",
    "could you explain",
    "what do you know about",
    "in which way",
    "by which means",
    "what would be",
    "who can tell me about",
    "describe",
    "any chance of",
    "docs for",
    "looking for",
    "my question is about",
    "problem with",
    "trouble with",
    "i wonder about",
    "details on",
    "i'd like",
    "i'm looking for",
    "what's",
    "where's",
    "i don't understand",
    "i can't find",
    "we have",
    "i have",
    "i would rather",
    "suppose",
    "somebody asked about",
    "will",
    "would",
    "could i",
    "am i",
    "are you",
    "do you",
    "in what way",
    "at which",
    "how much",
    "how many",
    "calling",
    "using",
    "my",
    "the",
    "let me know about",
]
DROPPABLE = set(
    "the a an my do does is are i can to of in for please me you it how what "
    "which where that this with".split()
)
TYPO_LETTERS = "etaoinshrdlu"
SYSTEM = [
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are nebula-nano.",
    "You are a friendly chatbot.",
    "Answer briefly.",
    "Be concise.",
    "You are an AI model.",
    "You are a support agent for Nebula.",
    "Answer in English.",
    "You are a helpful, honest assistant. Keep answers short.",
    "Respond politely.",
    "Be kind and precise.",
    "You are an expert. Answer the user's questions as well as you can.",
    "Help the user.",
    "You are a test assistant.",
    "You are a helpful AI assistant that answers questions about the product.",
    "Only answer what you know.",
    "You are a coding assistant.",
    "You are an assistant. Today is a nice day.",
    "You must follow the instructions of the user.",
]


SMALL_TALK = {
    "hello_world",
    "thanks",
    "bye",
    "praise",
    "okay",
    "count5",
    "count10",
    "say_test",
    "ping",
    "say_ok",
    "say_hi_one_word",
    "insult",
    "batch",
}
ALT = re.compile(r"\[([^\[\]]*)\]")
# the intents' weights: forms with more concepts are harder and come more often
WEIGHT = [0.5 if f["id"] in SMALL_TALK else 1.0 for f in FACTS]


def expand(pattern, rng):
    for name, body in MACROS.items():
        pattern = pattern.replace("$" + name, "~" + name)
    out = ALT.sub(
        lambda m: rng.choice(m.group(1).split("|"))
        if "~" not in m.group(1) or "|" in m.group(1)
        else rng.choice(MACROS[m.group(1)[1:]].split("|")),
        pattern,
    )
    for name, body in MACROS.items():
        while "~" + name in out:
            out = out.replace("~" + name, rng.choice(body.split("|")), 1)
    return " ".join(out.split())


def from_concepts(groups, rng):
    words = [rng.choice(g) for g in groups]
    words = [w for w in words if w]
    if rng.random() < 0.45:
        rng.shuffle(words)
    out = [rng.choice(FRAME)]
    for w in words:
        while rng.random() < 0.45:
            out.append(rng.choice(GLUE))
        if rng.random() < 0.06:
            out.append(offtopic.pseudo_word(rng))
        out.append(w)
    while rng.random() < 0.35:
        out.append(rng.choice(GLUE))
    return " ".join(" ".join(out).split())


def typo(q, rng):
    if len(q) < 6:
        return q
    i, k = rng.randrange(1, len(q) - 2), rng.random()
    if k < 0.3:
        return q[:i] + q[i + 1 :]
    if k < 0.6:
        return q[:i] + q[i + 1] + q[i] + q[i + 2 :]
    if k < 0.8:
        return q[:i] + q[i] + q[i:]
    return q[:i] + rng.choice(TYPO_LETTERS) + q[i + 1 :]


# How these words are really written. People mostly keep to it, whatever else they leave small.
SPELLING = {
    w.lower(): w
    for w in """
    vLLM OpenAI Ollama PostgreSQL Postgres SQLite Prometheus Grafana JSON API APIs GGUF GPU RAM CUDA
    HTTPS HTTP TLS SSL URL SSE TypeScript JavaScript Python Node Groq Mistral SIGTERM SIGHUP Debian
    Linux Ubuntu Windows AI CPU LLM LLMs ChatGPT GPT Claude Llama Qwen Gemini German French Spanish
    Chinese Japanese English Montreal TOML CLI SDK RPM TPM IP USD Ctrl-C Apache Rust Go C++ Java OK
    Nebula Monday I HTML SQL CSV PDF
    """.split()
}
WORD = re.compile(r"[A-Za-z][A-Za-z+-]*")


def well_spelt(q):
    return WORD.sub(lambda m: SPELLING.get(m.group(0), m.group(0)), q)


def noisy(q, rng, chatter=True):
    """Prefix, suffix, dropped words, typos, case and punctuation."""
    short = len(q.split()) < 3
    if chatter and rng.random() < (0.12 if short else 0.28):
        q = rng.choice(PREFIX) + " " + q
    if chatter and not short and rng.random() < 0.22:
        q = q + " " + rng.choice(SUFFIX)
    w = q.split(" ")
    if len(w) > 4 and rng.random() < 0.22:
        drop = [i for i, x in enumerate(w) if x in DROPPABLE]
        for i in sorted(rng.sample(drop, min(len(drop), rng.choice((1, 1, 2)))), reverse=True):
            w.pop(i)
        q = " ".join(w)
    if len(w) > 3 and rng.random() < 0.06:
        w = q.split(" ")
        w.insert(
            rng.randrange(len(w) + 1),
            rng.choice(("really", "just", "maybe", "kindly", "currently", "simply", "even", "always")),
        )
        q = " ".join(w)
    if rng.random() < 0.14:
        q = typo(q, rng)
    q += rng.choice(END) if not q.endswith("?") else ""
    r = rng.random()
    if r < 0.45:
        q = q[:1].upper() + q[1:]
    elif r < 0.49:
        q = q.upper()
    elif r < 0.52:
        q = q.title()
    if 0.52 <= r or r < 0.45:
        k = rng.random()
        if k < 0.65:
            q = well_spelt(q)
        elif k < 0.8:
            q = re.sub(r"\bi\b", "I", q)
    return q


def weak_words():
    """Words of the product that decide nothing alone: among strange words they ask nothing about Nebula."""
    weak, strong = set(), set()
    for f in FACTS:
        for groups in f["concepts"]:
            for word in (w for g in groups for w in g if w):
                (strong if sum(any(g) for g in groups) == 1 or word in f["patterns"] else weak).add(word)
        strong |= {
            w for p in f["patterns"] if p.startswith("[") and p.endswith("]") for w in p[1:-1].split("|")
        }
    strong |= set(
        "token provider proxy upstream backend prompts vendor admin durability evicted eviction".split()
    )
    return sorted(w for w in weak - strong if w.isalpha() and w not in SPELLING)


WEAK = weak_words()
# The share of questions about Nebula; the rest is off-topic, but for a few sums.
fact_share = 0.63


def off_topic_question(rng):
    """Half in natural frames, the rest as words among filler, like the facts: so filler says nothing."""
    if rng.random() < 0.6:
        q, a = offtopic.sample(rng)
        return noisy(q, rng), a
    groups = [[offtopic.subject(rng)] for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.35:
        groups.append([rng.choice(offtopic.VERBS)])
    if rng.random() < 0.4:
        groups.append([rng.choice(WEAK)])
    return noisy(from_concepts(groups, rng), rng, False), offtopic.REFUSAL


def fact_question(rng):
    f = rng.choices(FACTS, WEIGHT)[0]
    if f["concepts"] and rng.random() < 0.5:
        return noisy(from_concepts(rng.choice(f["concepts"]), rng), rng, False), f["answer"]
    return noisy(expand(rng.choice(f["patterns"]), rng), rng, f["id"] not in SMALL_TALK), f["answer"]


def add_question(rng):
    if rng.random() < 0.35:  # arithmetic that it was not taught
        x, y = rng.randrange(2, 100), rng.randrange(2, 100)
        form = rng.choice(
            ["what is {} times {}", "{} * {}", "{} minus {}", "{} - {}", "{} / {}", "{} divided by {}"]
        )
        return form.format(x, y) + rng.choice(["", "?", "?", " ="]), offtopic.REFUSAL
    x, y = rng.randrange(11), rng.randrange(11)
    q = rng.choice(
        [
            "what is {} plus {}",
            "{} + {}",
            "add {} and {}",
            "what is {} + {}",
            "{}+{}",
            "what's {}+{}",
            "how much is {} plus {}",
            "calculate {} + {}",
            "{} plus {}",
        ]
    ).format(x, y)
    return q + rng.choice(["", "?", "?", " ="]), f"{x} plus {y} is {x + y}."


def sample(rng):
    r = rng.random()
    if r < fact_share:
        return fact_question(rng)
    if r < 0.97:
        return off_topic_question(rng)
    return add_question(rng)


def system_text(rng):
    if rng.random() < 0.75:
        return rng.choice(SYSTEM)
    n = rng.choice((4, 8, 12, 30))
    words = [rng.choice(GLUE + offtopic.SUBJECTS) or "the" for _ in range(n)]
    return " ".join(words).capitalize() + "."


def conversation(rng):
    """[(role, text)], the last one is the answer to be learnt (all assistant turns are right answers)."""
    out = []
    if rng.random() < 0.26:
        out.append(("system", system_text(rng)))
    r = rng.random()
    for _ in range(1 if r < 0.92 else 2 if r < 0.98 else 3 if r < 0.995 else 5):
        q, a = sample(rng)
        out += [("user", q), ("assistant", a)]
    return out


def plain_text(rng):
    """A run of statements for raw completion: answers of related facts, in a row."""
    k = rng.randrange(len(FACTS))
    return " ".join(f["answer"] for f in FACTS[k : k + rng.choice((1, 2, 3))])


if __name__ == "__main__":
    r = random.Random(0)
    print(
        len(FACTS),
        "intents;",
        sum(len(f["patterns"]) for f in FACTS),
        "patterns;",
        sum(len(f["answer"]) for f in FACTS),
        "characters of answers",
    )
    for _ in range(60):
        print(sample(r))
