// Every client API over every kind of provider. Whatever is translated on the way: the client reads the same answer in
// its own words, the provider was asked the same in its own, and the charge is what the provider reported.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { model, provider } from '../support/nebula.mjs';
import { clients, picture } from '../support/matrix_clients.mjs';
import { kinds } from '../support/matrix_kinds.mjs';
import { charge_of, price_of, stage } from '../support/stage.mjs';

const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
const tools = [
  { name: 'weather', description: 'Weather of a city', schema: city },
  { name: 'clock', description: 'The time', schema: { type: 'object', properties: {} } },
];
const weather = { id: 'call_1', name: 'weather', input: { city: 'Paris "FR"' } };
const clock = { id: 'call_2', name: 'clock', input: {} };
const as_script = (calls) => calls.map(({ id, name, input }) => ({ id, name, arguments: JSON.stringify(input) }));

/** What is asked, what the provider does, and what of the answer must arrive. */
const scenarios = {
  text: {
    ask: { system: 'Be brief.' },
    script: { text: 'It is "noon" in 東京 🙂.', prompt_tokens: 21 },
    answer: { text: 'It is "noon" in 東京 🙂.' },
  },
  'a tool': { ask: { tools }, script: { calls: as_script([weather]) }, answer: { calls: [weather] } },
  'parallel tools, after others': {
    ask: { tools, history: [{ calls: [weather, clock], results: ['sunny', 'noon'] }] },
    script: { text: 'Once more.', calls: as_script([weather, clock]) },
    answer: { text: 'Once more.', calls: [weather, clock] },
  },
  'an image': { ask: { image: picture }, script: { text: 'A cat.' }, answer: { text: 'A cat.' } },
  'a schema': { ask: { schema: city }, script: { text: '{"city":"Paris"}' }, answer: { text: '{"city":"Paris"}' } },
  reasoning: {
    ask: { thinks: true },
    script: { reasoning: 'let me think', text: 'Noon.' },
    answer: { text: 'Noon.', thoughts: 'let me think' },
  },
  'an answer cut by its cap': {
    ask: {},
    script: { text: 'half an', finish: 'length' },
    answer: { text: 'half an', ended: { 'OpenAI responses': 'incomplete', 'Anthropic messages': 'max_tokens' } },
  },
};

let s;
before(async () => {
  s = await stage({
    models: kinds.map(({ name }) => model(`demo/${name}:1`, { provider: name, upstream: `upstream-${name}` })),
    providers: (fake) =>
      kinds.map(({ name, base_url, settings }) =>
        provider(name, base_url(fake), { kind: name, breaker_failures: 100000, ...settings }),
      ),
  });
});
after(() => s?.close());

const plain = { question: 'What is it?', cap: 8000 };

/** One request on the wire, as the client sends it. */
function send(client, kind, ask, stream) {
  const body = { model: `demo/${kind.name}:1`, ...client.request({ ...plain, ...ask }), ...(stream ? client.stream : {}) };
  return s.server.call({ path: client.path, key: s.account.key, body });
}

function assert_asked(kind, record, ask) {
  assert.equal(record.model, `upstream-${kind.name}`);
  const asked = kind.asked(record);
  const results = (ask.history ?? []).flatMap(({ calls, results: texts }) => calls.map(({ id }, i) => [id, texts[i]]));
  assert.deepEqual(asked, {
    system: ask.system ?? '',
    question: plain.question,
    tools: (ask.tools ?? []).map((t) => t.name),
    results,
    image: ask.image?.data,
    schema: ask.schema,
    thinks: ask.thinks === true,
    cap: plain.cap,
  });
}

for (const client of clients)
  for (const kind of kinds)
    describe(`${client.name} over ${kind.name}`, () => {
      for (const stream of [false, true]) {
        const how = stream ? 'stream' : 'JSON';

        for (const [name, { ask, script, answer }] of Object.entries(scenarios))
          test(`${name}, ${how}`, async () => {
            s.fake.queue.push({ kind: 'ok', ...script });
            const { charge, result: response } = await charge_of(s.server, s.account, () => send(client, kind, ask, stream));
            assert.equal(response.status, 200, response.text);
            const { usage, whole, error, ...said } = stream ? client.read_stream(response) : client.read_json(response);
            const record = s.fake.last;
            assert_asked(kind, record, ask);
            const calls = (answer.calls ?? []).map(({ name: called, input }) => ({ name: called, input }));
            const natural = calls.length > 0 ? 'calls' : script.finish ?? 'stop';
            assert.deepEqual(said, {
              text: answer.text ?? '',
              thoughts: answer.thoughts ?? '',
              calls,
              ended: answer.ended?.[client.name] ?? natural,
            });
            assert.equal(error, undefined);
            if (stream) assert.equal(whole, true, response.text);
            const { prompt_tokens, completion_tokens } = record.usage;
            assert.deepEqual(usage, [prompt_tokens, completion_tokens]);
            assert.equal(charge, price_of(prompt_tokens, completion_tokens));
          });

        for (const script of [{ kind: 'status', status: 500 }, { kind: 'cut_after_head' }, { kind: 'error_first' }])
          test(`a provider that fails before anything was told (${script.kind}), ${how}`, async () => {
            s.fake.queue.push(script);
            const { charge, result: response } = await charge_of(s.server, s.account, () => send(client, kind, {}, stream));
            assert.equal(response.status, 502, response.text);
            assert.ok(client.error_of(response).message.length > 0, response.text);
            assert.equal(charge, 0n);
          });
      }

      for (const fault of ['cut_mid_body', 'error_event', 'garbage_frame', 'end_without_finish'])
        test(`a stream that breaks in the middle (${fault})`, async () => {
          s.fake.queue.push({ kind: fault, text: 'one two three four five', after: 3 });
          const { charge, result: response } = await charge_of(s.server, s.account, () => send(client, kind, {}, true));
          assert.equal(response.status, 200, response.text);
          const { text, whole, error } = client.read_stream(response);
          assert.equal(text, 'one two three ', response.text);
          assert.ok(error?.message.length > 0, response.text);
          assert.equal(whole, false);
          assert.equal(response.complete, false, 'the body must not end as if it were whole');
          assert.ok(charge > 0n && charge < price_of(200, 20), `${charge}`);
        });
    });
