// The parts that need no model.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseOptions, UsageError } from "../lib/options.mjs";
import { normaliseSchema } from "../lib/schema.mjs";
import { Slots } from "../lib/slots.mjs";
import { JsonEnd, StopFilter, TokenDecoder } from "../lib/text.mjs";

const bytes = tokens => Buffer.from(tokens).toString("utf8");

// Every token of this fake tokenizer is one byte, the worst case for characters of several bytes.
test("the decoder gives whole characters only", () => {
  const d = new TokenDecoder(bytes);
  const out = [...Buffer.from("aé世🙂!")].map(b => d.push(b));
  assert.deepEqual(out, ["a", "", "é", "", "", "世", "", "", "", "🙂", "!"]);
  assert.equal(d.end(), "");
});

// Bytes that never become a character must not be held for ever, nor leak at the end.
test("the decoder lets broken bytes go and drops an unfinished end", () => {
  const d = new TokenDecoder(bytes);
  const out = [0xf0, 0xf0, 0xf0, 0xf0, 0xf0, 0x61].map(b => d.push(b)).join("");
  assert.ok(out.endsWith("a"));
  d.push(0xe4);
  assert.equal(d.end(), "");
});

// Whatever the pieces are, what is sent must be the text before the stop string.
test("the stop filter cuts exactly, however the text is split", () => {
  const text = "one two STOP three",
    stops = ["STOP", "xyz"];
  for (let n = 1; n < text.length; n++) {
    const f = new StopFilter(stops);
    let out = "";
    for (let i = 0; i < text.length; i += n) out += f.push(text.slice(i, i + n));
    assert.equal(out + f.end(), "one two ");
    assert.ok(f.stopped);
  }
});

// A beginning that turned out harmless belongs to the answer.
test("the stop filter gives back what it held", () => {
  const f = new StopFilter(["STOP"]);
  assert.equal(f.push("a ST"), "a ");
  assert.equal(f.push("ART ST"), "START ");
  assert.equal(f.end(), "ST");
});

// The end of a constrained answer is found without parsing it again and again.
test("the end of a JSON text is seen through strings and escapes", () => {
  const j = new JsonEnd();
  assert.equal(j.push('{"a":"}\\"'), -1);
  assert.equal(j.push('","b":[1]} \n'), 10);
  assert.equal(new JsonEnd().push(' "x\\\\" '), 6);
});

// The order of arrival is the order of service, and a client that left must not take a place.
test("slots serve in order, skip who left and refuse when full", async () => {
  const slots = new Slots(["s"], 2),
    here = () => new AbortController();
  const first = await slots.take(here().signal);
  const gone = here(),
    a = slots.take(gone.signal),
    b = slots.take(here().signal);
  assert.throws(
    () => slots.admit(1),
    e => e.status === 503,
  );
  gone.abort();
  await assert.rejects(a);
  slots.give(first);
  assert.equal(await b, "s");
  slots.give("s");
  assert.equal(slots.free, 1);
});

// Schemas of real clients use words that the grammar generator does not know.
test("schemas are rewritten for the grammar", () => {
  assert.deepEqual(normaliseSchema({ anyOf: [{ type: "string", pattern: "a+" }, { type: "null" }] }), {
    oneOf: [{ type: "string" }, { type: "null" }],
  });
  assert.deepEqual(
    normaliseSchema({ $ref: "#/definitions/a", definitions: { a: { type: "integer", minimum: 3 } } }),
    { $ref: "#/$defs/a", $defs: { a: { type: "integer" } } },
  );
  assert.deepEqual(normaliseSchema({ type: ["string", "null"] }), { type: ["string", "null"] });
  assert.deepEqual(
    normaliseSchema({
      allOf: [{ properties: { a: { type: "string" } } }, { properties: { b: { const: 1 } } }],
    }),
    { type: "object", properties: { a: { type: "string" }, b: { const: 1 } } },
  );
  assert.throws(() => normaliseSchema({ not: {} }), /not supported/);
  assert.throws(() => normaliseSchema({ $ref: "#" }), /not supported/);
});

// The supervisor composes this command line; a misspelt option must not be ignored.
test("options are checked", () => {
  const o = parseOptions(["--model", "m.gguf", "--port=0", "--parallel", "2", "--embeddings"]);
  assert.deepEqual([o.model, o.port, o.parallel, o.embeddings], ["m.gguf", 0, 2, true]);
  assert.ok(o.threads >= 1);
  for (const bad of [
    ["--model", "x"],
    ["--port", "1"],
    ["--model", "x", "--port", "a"],
    ["--model", "x", "--socket", "s", "--port", "1"],
    ["--model", "x", "--port", "0", "--frobnicate"],
  ]) {
    assert.throws(() => parseOptions(bad), UsageError);
  }
});
