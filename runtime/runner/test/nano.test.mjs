// The demonstration model through the runner: what somebody sees who has just installed Nebula.
import assert from "node:assert/strict";
import fs from "node:fs";
import { after, before, test } from "node:test";
import { NANO, Runner } from "./support.mjs";

let runner;
before(async () => {
  runner = await Runner.start(NANO);
});
after(() => runner.stop());

const ask = async (messages, more = {}) => {
  const r = await runner.chat({ messages, temperature: 0, ...more });
  assert.equal(r.status, 200, r.text);
  return r.json.choices[0].message.content;
};
const user = content => ({ role: "user", content });

// It travels with the source, so its size is a promise.
test("the file is at most 8 MB and names itself", () => {
  assert.ok(fs.statSync(NANO).size <= 8_000_000);
  assert.equal(runner.first.model, "nebula-nano");
  assert.equal(runner.first.context, 1024);
});

// The first request of every example in the documentation.
test("a greeting is greeted, with and without a system message", async () => {
  for (const before of [[], [{ role: "system", content: "You are a helpful assistant." }]]) {
    for (const text of ["Hello", "Hello!", "hi"]) assert.match(await ask([...before, user(text)]), /^Hello!/);
  }
});

// What it was taught, what it must refuse, and a second turn after a first one.
test("it knows Nebula's port, refuses what it does not know, and follows a second question", async () => {
  assert.match(await ask([user("Which port does Nebula listen on?")]), /8080/);
  assert.match(await ask([user("What is the capital of France?")]), /do not know/);
  const turns = [user("Hello"), { role: "assistant", content: "Hello! How can I help you today?" }];
  assert.match(await ask([...turns, user("How do I create an API key?")]), /nebula keys create/);
});

// Most clients send no temperature: the answer must hold at the default one and be streamed in pieces.
test("it streams the same answer that it gives whole", async () => {
  const messages = [user("How do I stop the server?")];
  const whole = await ask(messages, { temperature: 0 });
  const { list } = await runner.events("/v1/chat/completions", { messages, temperature: 0 });
  const pieces = list.slice(0, -1).map(e => e.choices[0].delta.content ?? "");
  assert.equal(pieces.join(""), whole);
  assert.ok(pieces.length > 5);
  assert.equal(list.at(-2).choices[0].finish_reason, "stop");
});

// A constrained answer must parse even from a model that knows no JSON.
test("it keeps to a schema", async () => {
  const schema = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"] };
  const format = { type: "json_schema", json_schema: { name: "answer", schema } };
  const text = await ask([user("Is Montreal a thriving hub for the AI industry?")], {
    response_format: format,
  });
  assert.equal(typeof JSON.parse(text).yes, "boolean");
});
