// The same models asked in the words of other clouds: each path answers in its own shape, in JSON, streams and errors,
// and costs what OpenAI's path costs.

import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { model } from '../support/nebula.mjs';
import { call } from '../support/raw_http.mjs';
import { noise } from '../support/fake_wire_media.mjs';
import { charge_of, price_of, stage } from '../support/stage.mjs';

const free = { price_input_per_m: '0', price_output_per_m: '0' };
const painter = 'black-forest-labs/FLUX.1-schnell';
const listener = 'openai/whisper-1';
const talker = 'demo/chat:1';
const warm = 'demo/warm';
const models = [
  model(painter, { ...free, endpoints: ['images'], unit: 'image', price_unit: '0.04', upstream: 'flux' }),
  model(listener, { ...free, endpoints: ['transcriptions'], unit: 'second', price_unit: '0.0001', upstream: 'whisper' }),
  model(talker),
  model(warm, { endpoints: ['chat', 'completions'], default_temperature: '0.7' }),
  model('demo/vectors', { endpoints: ['embeddings'] }),
];

let s;
before(async () => {
  s = await stage({ models });
});
after(() => s?.close());

const ask = (method, path, body, key = s.account.key) => call(s.server.url, { method, path, key, body });

/** What `act` cost and the provider saw. */
async function costs(script, act) {
  s.fake.queue.push(script);
  const { charge, result } = await charge_of(s.server, s.account, act);
  return { charge, result, record: s.fake.last };
}

test("the platform's images", async () => {
  const body = { model_name: painter, prompt: 'p', num_images: 2, width: 512, height: 256, num_steps: 4, guidance_scale: 4.5, seed: -1 };
  const { charge, result, record } = await costs({ kind: 'ok' }, () => ask('POST', '/api/v1/images/generation', body));
  assert.equal(charge, 80_000_000n);
  const { data, ...rest } = result.json();
  assert.deepEqual(rest, { model: painter, object: 'list', message: 'Image generated successfully', status: 'success' });
  assert.deepEqual(data.map((d) => [d.index, Buffer.from(d.b64_json, 'base64').equals(noise(3000, d.index))]), [[0, true], [1, true]]);
  assert.ok(data[0].timings.inference > 0);
  assert.deepEqual(record.body, {
    prompt: 'p',
    num_steps: 4,
    guidance_scale: 4.5,
    seed: -1,
    model: 'flux',
    n: 2,
    size: '512x256',
    response_format: 'b64_json',
  });
  const refused = await ask('POST', '/api/v1/images/generation', { model: painter, prompt: 'p', num_images: 11 });
  assert.equal(refused.status, 400);
  assert.equal(refused.json().status, 'error');
  const keyless = await ask('POST', '/api/v1/images/generation', body, 'sk-neb-none');
  assert.equal(keyless.status, 401);
  assert.equal(keyless.json().status, 'error');
});

test("OpenRouter's images, and those of the platform's first documentation", async () => {
  const router = await costs({ kind: 'ok', usage: 'tokens' }, () =>
    ask('POST', '/api/v1/images', { model: painter, prompt: 'p', output_format: 'webp', provider: { sort: 'price' } }),
  );
  assert.equal(router.charge, 40_000_000n);
  const { data, usage } = router.result.json();
  assert.equal(data[0].media_type, 'image/webp');
  assert.equal(usage.total_tokens, 33);
  assert.equal(router.record.body.provider, undefined);
  const missing = await ask('POST', '/api/v1/images', { model: 'nobody/none', prompt: 'p' });
  assert.equal(missing.json().error.code, 404);

  const old = await costs({ kind: 'ok', url: true }, () =>
    ask('POST', '/v1/images/generate', { model: painter, prompt: 'p', n: 2, size: '256x256' }),
  );
  assert.deepEqual(old.result.json(), {
    status: 'success',
    data: {
      images: [{ url: 'https://images.example/0.png' }, { url: 'https://images.example/1.png' }],
      usage: { images_generated: 2, resolution: '256x256' },
    },
  });
});

test('transcriptions asked for in JSON reach the provider as a form', async () => {
  const sound = noise(5000);
  const body = { model: listener, input_audio: { data: sound.toString('base64'), format: 'ogg' }, language: 'en' };
  const { charge, result, record } = await costs({ kind: 'ok', text: 'hello', seconds: 4 }, () =>
    ask('POST', '/api/v1/audio/transcriptions', body),
  );
  assert.equal(charge, 400_000n);
  assert.equal(result.json().text, 'hello');
  assert.equal(record.form.model, 'whisper');
  assert.equal(record.form.language, 'en');
  assert.equal(record.form.file.name, 'audio.ogg');
  assert.ok(record.form.file.bytes.equals(sound));
});

for (const base of ['/v1', '/api/v1'])
  test(`text and vision of the platform's first API below ${base}`, async () => {
    const text = await costs({ kind: 'ok', text: 'It is noon.' }, () =>
      ask('POST', `${base}/text/generate`, { model: talker, prompt: 'time?' }),
    );
    assert.deepEqual(text.result.json(), {
      status: 'success',
      data: { text: 'It is noon.', usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 } },
    });
    assert.equal(text.charge, price_of(7, 3));
    assert.equal(text.record.body.max_tokens, 256);
    assert.equal(text.record.body.temperature, 0.7);
    const streamed = await costs({ kind: 'ok', text: 'It is noon.' }, () =>
      ask('POST', `${base}/text/generate`, { model: talker, prompt: 'time?', stream: true, top_p: 0.5 }),
    );
    assert.equal(streamed.charge, price_of(7, 3));
    assert.equal(streamed.result.complete, true);
    const events = streamed.result.events();
    assert.equal(events.at(-1), '[DONE]');
    const parts = events.slice(0, -1).map((e) => JSON.parse(e));
    assert.equal(parts.map((p) => p.text).join(''), 'It is noon.');
    assert.deepEqual(parts.map((p) => p.finish_reason), [null, null, null, 'stop']);
    const seen = await costs({ kind: 'ok', text: 'A cat.' }, () =>
      ask('POST', `${base}/vision/generate`, { model: talker, prompt: 'what?', image: [{ data: 'aGk=', type: 'image/png' }] }),
    );
    assert.equal(seen.result.json().data.text, 'A cat.');
    assert.deepEqual(seen.record.body.messages[0].content[1], {
      type: 'image_url',
      image_url: { url: 'data:image/png;base64,aGk=', detail: 'auto' },
    });
  });

test('a text stream that broke ends in an error of its own dialect', async () => {
  s.fake.queue.push({ kind: 'cut_mid_body', after: 2 });
  const answer = await ask('POST', '/v1/text/generate', { model: talker, prompt: 'x', stream: true });
  assert.equal(answer.complete, false);
  const last = JSON.parse(answer.events().at(-1));
  assert.equal(last.status, 'error');
  assert.ok(last.error.message);
  const refused = await ask('POST', '/v1/text/generate', { model: talker });
  assert.equal(refused.status, 400);
  assert.equal(refused.json().error.details.param, 'prompt');
});

test('lists of models of one kind', async () => {
  const of = async (path) => (await ask('GET', path)).json().data.map((m) => m.id);
  assert.deepEqual(await of('/api/v1/images/models'), [painter]);
  assert.deepEqual(await of('/api/v1/embeddings/models'), ['demo/vectors']);
  const novita = (await ask('GET', '/v3/model?filter.query=flux&pagination.limit=5')).json();
  assert.deepEqual(novita.models.map((m) => [m.sd_name, m.status, m.type.name]), [[painter, 1, 'checkpoint']]);
  assert.deepEqual(novita.pagination, { next_cursor: '' });
  const refused = await ask('GET', '/v3/model?pagination.limit=1000');
  assert.equal(refused.json().reason, 'INVALID_REQUEST_BODY');
  assert.equal((await ask('GET', '/v3/model', undefined, 'sk-neb-none')).json().reason, 'INVALID_API_KEY');
});

test("a model's temperature stands in where the client names none", async () => {
  const chat = (extra) => ask('POST', '/v1/chat/completions', { model: warm, messages: [{ role: 'user', content: 'x' }], ...extra });
  for (const [extra, wanted] of [[{}, 0.7], [{ temperature: 0 }, 0], [{ temperature: 1.3 }, 1.3]]) {
    assert.equal((await chat(extra)).status, 200);
    assert.equal(s.fake.last.body.temperature, wanted);
  }
  await ask('POST', '/v1/completions', { model: warm, prompt: 'x' });
  assert.equal(s.fake.last.body.temperature, 0.7);
  await ask('POST', '/v1/chat/completions', { model: talker, messages: [{ role: 'user', content: 'x' }] });
  assert.equal('temperature' in s.fake.last.body, false);
});

test("Novita's paths pass its own members on, and refuse in its words", async () => {
  const extra = { separate_reasoning: true, enable_thinking: false, top_k: 5, min_p: 0.1, repetition_penalty: 1.1, stop: ['x'] };
  for (const base of ['/openai/v1', '/openai', '/v3/openai']) {
    const asked = { model: talker, messages: [{ role: 'user', content: 'hi' }], ...extra };
    assert.equal((await ask('POST', `${base}/chat/completions`, asked)).status, 200);
    assert.deepEqual(s.fake.last.body, asked);
    const missing = await ask('POST', `${base}/chat/completions`, { ...asked, model: 'none' });
    assert.equal(missing.status, 404);
    const { code, reason, error } = missing.json();
    assert.deepEqual([code, reason, error.code], [404, 'MODEL_NOT_FOUND', 'model_not_found']);
  }
});

test('a megabyte of embeddings passes unchanged and hardly copied', async (t) => {
  const input = Array.from({ length: 1000 }, (_, i) => `${i} ${'x'.repeat(1000)}`);
  const counted = async () => [
    await s.server.metric(/^nebula_http_body_bytes_total/, { listener: 'api' }),
    await s.server.metric(/^nebula_http_body_copied_bytes_total/, { listener: 'api' }),
  ];
  const [read_before, copied_before] = await counted();
  for (const encoding_format of ['base64', 'float']) {
    s.fake.queue.push({ kind: 'ok', prompt_tokens: 5000 });
    const body = JSON.stringify({ input, model: 'demo/vectors', encoding_format, dimensions: 256 });
    const answer = await ask('POST', '/v1/embeddings', body);
    assert.equal(answer.status, 200, answer.text.slice(0, 200));
    assert.equal(s.fake.last.body_bytes.toString(), body);
    assert.ok(answer.body.length > 1_000_000);
    assert.equal(answer.json().data.length, 1000);
  }
  const [read, copied] = await counted();
  assert.ok(read - read_before > 2_000_000);
  const ratio = (copied - copied_before) / (read - read_before);
  t.diagnostic(`${ratio.toFixed(3)} bytes copied for each byte of a body`);
  assert.ok(ratio < 0.4, `${ratio} bytes copied for each byte of a body`);
});
