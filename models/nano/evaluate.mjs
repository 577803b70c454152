// Asks a model the held-out questions through the bundled runner, as a client would, and counts right
// answers.
// usage: node evaluate.mjs MODEL.gguf dev|test [--show] [--system TEXT]
//        [--min-phrasing PERCENT] [--min-off-topic PERCENT]   (below: exit status 1)
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

const [model, section, ...rest] = process.argv.slice(2);
const flag = name => (rest.includes(name) ? Number(rest[rest.indexOf(name) + 1]) : null);
const system = rest.includes("--system") ? rest[rest.indexOf("--system") + 1] : null;
const runner = path.join(path.dirname(fileURLToPath(import.meta.url)), "../../runtime/runner/runner.mjs");
const child = spawn(process.execPath, [runner, "--model", model, "--port", "0"], {
  stdio: ["pipe", "pipe", "inherit"],
});
const [line] = await once(readline.createInterface({ input: child.stdout }), "line");
const ready = JSON.parse(line);
if (ready.event !== "ready") throw new Error(line);

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
function ask(question) {
  const messages = [
    ...(system === null ? [] : [{ role: "system", content: system }]),
    { role: "user", content: question },
  ];
  return new Promise((resolve, reject) => {
    const req = http.request(
      { host: "127.0.0.1", port: ready.port, path: "/v1/chat/completions", method: "POST", agent },
      res => {
        let text = "";
        res
          .on("data", d => {
            text += d;
          })
          .on("end", () => resolve(JSON.parse(text).choices[0].message.content))
          .on("error", reject);
      },
    );
    req.on("error", reject).end(JSON.stringify({ messages, temperature: 0, max_tokens: 160 }));
  });
}

const here = path.dirname(fileURLToPath(import.meta.url));
const answers = {};
let intent = null;
for (const row of fs.readFileSync(path.join(here, "facts.txt"), "utf8").split("\n")) {
  if (row.startsWith("= ")) intent = row.slice(2);
  else if (row.startsWith("! ")) answers[intent] = row.slice(2).replaceAll("\\n", "\n");
}
const refusals = [answers.off, answers.off_code];
const cases = [];
let current = null;
for (const row of fs.readFileSync(path.join(here, "heldout.txt"), "utf8").split("\n")) {
  if (row.startsWith("[")) current = row.slice(1, -1);
  else if (current === section && row.includes(": ") && !row.startsWith("#")) {
    const at = row.indexOf(": "),
      id = row.slice(0, at);
    const off = id === "off";
    cases.push({
      q: row.slice(at + 2),
      group: off ? "off-topic" : "phrasing",
      a: off ? refusals : [answers[id]],
    });
  }
}
if (cases.length === 0) throw new Error(`heldout.txt has no section ${section}`);
const groups = {};
await Promise.all(
  cases.map(async c => {
    const answer = await ask(c.q);
    const right = c.a.includes(answer);
    const g = (groups[c.group] ??= { right: 0, of: 0 });
    g.of++;
    if (right) g.right++;
    else if (rest.includes("--show")) console.log(`MISS [${c.group}] ${c.q} -> ${answer.slice(0, 100)}`);
  }),
);
child.stdin.end();
await once(child, "exit");
let ok = true;
for (const [name, g] of Object.entries(groups).sort()) {
  const percent = (100 * g.right) / g.of;
  const goal = flag(name === "phrasing" ? "--min-phrasing" : "--min-off-topic");
  if (goal !== null && percent < goal) ok = false;
  console.log(
    `${name}: ${g.right} of ${g.of} (${percent.toFixed(1)} %)${goal === null ? "" : `, wanted ${goal} %`}`,
  );
}
process.exit(ok ? 0 : 1);
