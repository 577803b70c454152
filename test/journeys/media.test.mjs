// Images and sound are sold by the piece, the second and the character: whatever is made is charged exactly once and
// before it ends, what breaks off is not, and neither uploads nor sound change a byte on their way.

import { test, describe, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import OpenAI, { toFile } from 'openai';
import { model } from '../support/nebula.mjs';
import { call, RawClient, request_bytes } from '../support/raw_http.mjs';
import { noise } from '../support/fake_wire_media.mjs';
import { assert_error_body, charge_of, collect, stage } from '../support/stage.mjs';
import { eventually } from '../support/wait.mjs';

const free = { price_input_per_m: '0', price_output_per_m: '0' };
const painter = 'demo/painter';
const speaker = 'demo/speaker';
const listener = 'demo/listener';
const painter_tokens = 'demo/painter-tokens';
const twice = 'demo/twice';
const images = ['images', 'image_edits', 'image_variations'];
const models = [
  model(painter, { ...free, endpoints: images, unit: 'image', price_unit: '0.04', upstream: 'paint-1' }),
  model(painter_tokens, { endpoints: images }),
  model('demo/slow-painter', { ...free, endpoints: images, unit: 'image', price_unit: '0.04', ipm: 3 }),
  model('demo/sized-painter', {
    ...free,
    endpoints: images,
    unit: 'image',
    price_unit: '0.08',
    image_prices: [
      { size: '1024x1024', quality: 'high', price: '0.2' },
      { size: '1024x1024', price: '0.05' },
      { size: '256x256', price: '0.01' },
    ],
  }),
  model(speaker, { ...free, endpoints: ['speech'], unit: 'character', price_unit: '0.000015' }),
  model(listener, {
    ...free,
    endpoints: ['transcriptions', 'translations'],
    unit: 'second',
    price_unit: '0.0001',
    upstream: 'whisper-large "v3"',
  }),
  model('demo/listener-tokens', { endpoints: ['transcriptions'] }),
  model('demo/ranker', { ...free, endpoints: ['rerank'], unit: 'document', price_unit: '0.00001' }),
  model('demo/chat:1'),
  model(twice, {
    ...free,
    endpoints: ['speech', 'images'],
    unit: 'character',
    price_unit: '0.000015',
    routes: ['one', 'two'].map((upstream) => ({ provider: 'fake', model: upstream, weight: 1 })),
  }),
];
const an_image = 40_000_000n;
const a_character = 15_000n;
const a_second = 100_000n;

let s;
before(async () => {
  s = await stage({ models, http: { body_bytes_max: 4 * 1024 * 1024 }, sections: { gateway: { upload_bytes_max: 1024 * 1024 } } });
});
after(() => s?.close());

/** What `act` cost, with these scripts for its requests. */
async function costs(scripts, act) {
  const from = s.fake.records.length;
  s.fake.queue.push(...[scripts].flat());
  const { charge, result } = await charge_of(s.server, s.account, act);
  assert.equal(s.fake.queue.length, 0, 'every script was asked for');
  return { charge, result, records: s.fake.records.slice(from) };
}

/** Two seconds of a tone as a WAV file. */
function wav(seconds, { rate = 8000, claims } = {}) {
  const data = noise(seconds * rate * 2);
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + (claims ?? data.length), 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(rate * 2, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(claims ?? data.length, 40);
  return Buffer.concat([head, data]);
}
const sound = (seconds, options) => toFile(wav(seconds, options), 'tone.wav', { type: 'audio/wav' });
const picture = (length = 500) => toFile(noise(length), 'a.png', { type: 'image/png' });
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');

const post = (path, body, headers = {}) =>
  call(s.server.url, {
    method: 'POST',
    path,
    headers: { authorization: `Bearer ${s.account.key}`, 'content-type': 'application/json', ...headers },
    body: Buffer.isBuffer(body) || typeof body === 'string' ? body : JSON.stringify(body),
  });

describe('images', () => {
  test('are generated and charged by the piece, below every base path', async () => {
    for (const base of ['/v1', '/openai/v1', '/openai', '/v3/openai', '/api/v1']) {
      const client = new OpenAI({ apiKey: s.account.key, baseURL: s.server.url + base, maxRetries: 0 });
      const { charge, result, records } = await costs({ kind: 'ok' }, () =>
        client.images.generate({ model: painter, prompt: 'a nebula', n: 2, size: '1024x1024', style: 'vivid' }),
      );
      assert.equal(charge, 2n * an_image, base);
      assert.equal(result.data.length, 2);
      assert.deepEqual(Buffer.from(result.data[1].b64_json, 'base64'), noise(3000, 1));
      assert.deepEqual(records[0].body, { model: 'paint-1', prompt: 'a nebula', n: 2, size: '1024x1024', style: 'vivid' });
    }
  });

  test('fewer than asked for cost less, more cost no more', async () => {
    for (const [made, paid] of [[1, 1n], [3, 3n], [5, 3n]]) {
      const { charge } = await costs({ kind: 'ok', images: made }, () =>
        s.client.images.generate({ model: painter, prompt: 'x', n: 3 }),
      );
      assert.equal(charge, paid * an_image);
    }
  });

  test('by size and quality, as the provider tells them, as asked for, or the most that it may be', async () => {
    for (const [asked, told, cents] of [
      [{ size: '256x256' }, false, 1n],
      [{ size: '512x512' }, false, 8n],
      [{ size: '1024x1024', quality: 'high' }, false, 20n],
      [{ size: '1024x1024', quality: 'low' }, false, 5n],
      [{ size: '1024x1024' }, false, 20n],
      [{ size: '1024x1024' }, true, 5n],
      [{ size: 'auto', quality: 'auto' }, true, 5n],
      [{}, false, 20n],
    ]) {
      const { charge } = await costs({ kind: 'ok', usage: told ? 'tokens' : 'absent' }, () =>
        s.client.images.generate({ model: 'demo/sized-painter', prompt: 'x', n: 2, ...asked }),
      );
      assert.equal(charge, 2n * cents * 10_000_000n, JSON.stringify(asked));
    }
    const { charge } = await costs({ kind: 'ok' }, async () =>
      s.client.images.edit({ model: 'demo/sized-painter', prompt: 'x', image: await picture(), size: '256x256' }),
    );
    assert.equal(charge, 10_000_000n);
  });

  test('by tokens, where the provider reports them', async () => {
    const { charge } = await costs({ kind: 'ok', usage: 'tokens' }, () =>
      s.client.images.generate({ model: painter_tokens, prompt: 'x' }),
    );
    assert.equal(charge, 11n * 1_000n + 22n * 2_000n);
  });

  test('edits and variations travel as the form that they are', async () => {
    const edited = await costs({ kind: 'ok' }, async () =>
      s.client.images.edit({
        model: painter,
        prompt: 'more stars',
        image: [await picture(), await picture(70_000)],
        mask: await picture(9),
        n: 2,
      }),
    );
    assert.equal(edited.charge, 2n * an_image);
    const { form, head } = edited.records[0];
    assert.equal(form.model, 'paint-1');
    assert.equal(form.prompt, 'more stars');
    assert.deepEqual(form['image[]'].map((file) => [file.name, file.type, sha(file.bytes)]), [
      ['a.png', 'image/png', sha(noise(500))],
      ['a.png', 'image/png', sha(noise(70_000))],
    ]);
    assert.equal(form.mask.bytes.length, 9);
    assert.ok(head[0].startsWith('POST /v1/images/edits '));
    const varied = await costs({ kind: 'ok' }, async () =>
      s.client.images.createVariation({ model: painter, image: await picture() }),
    );
    assert.equal(varied.charge, an_image);
  });

  for (const done of [false, true])
    test(`partial images stream, the last one after it is paid for${done ? ', with [DONE]' : ''}`, async () => {
      const { charge, result, records } = await costs({ kind: 'ok', usage: 'tokens', done }, async () =>
        post('/v1/images/generations', { model: painter, prompt: 'x', n: 2, stream: true, partial_images: 2 }),
      );
      assert.equal(charge, 2n * an_image);
      assert.equal(result.complete, true);
      assert.equal(sha(result.body), records[0].sha256);
      const events = result.events().filter((e) => e !== '[DONE]').map((e) => JSON.parse(e).type);
      assert.deepEqual(events.slice(-2), ['image_generation.partial_image', 'image_generation.completed']);
    });

  test('images larger than any chunk of text stream, too', async () => {
    const { charge, result, records } = await costs({ kind: 'ok', size: 1_500_000, partials: 1 }, async () =>
      post('/v1/images/generations', { model: painter, prompt: 'x', n: 2, stream: true }),
    );
    assert.equal(charge, 2n * an_image);
    assert.equal(result.complete, true);
    assert.equal(sha(result.body), records[0].sha256);
  });

  test('the client reads the stream', async () => {
    const { charge, result } = await costs({ kind: 'ok' }, async () =>
      collect(await s.client.images.generate({ model: painter, prompt: 'x', stream: true })),
    );
    assert.equal(charge, an_image);
    assert.deepEqual(result.map((e) => e.type), [
      'image_generation.partial_image',
      'image_generation.partial_image',
      'image_generation.completed',
    ]);
  });

  test('a stream that broke charges for the images that came whole', async () => {
    for (const [n, after, paid] of [[1, 1, 0n], [3, 4, 1n]]) {
      const { charge, result } = await costs({ kind: 'cut_mid_body', after }, () =>
        post('/v1/images/generations', { model: painter, prompt: 'x', n, stream: true }),
      );
      assert.equal(charge, paid * an_image, `${n} ${after}`);
      assert.equal(result.complete, false);
      assert.ok(JSON.parse(result.events().at(-1)).error.message);
    }
  });

  test('images per minute are limited', async () => {
    const ask = (n) => post('/v1/images/generations', { model: 'demo/slow-painter', prompt: 'x', n });
    const first = await ask(2);
    assert.equal(first.status, 200);
    assert.equal(first.headers['x-ratelimit-remaining-images'], '1');
    const refused = await ask(2);
    assert_error_body(refused, 429, { code: 'rate_limit_exceeded' });
    assert.ok(Number(refused.headers['retry-after']) > 0);
    assert.equal((await ask(1)).status, 200);
  });
});

describe('speech', () => {
  const ask = (input, extra = {}) => ({ model: speaker, input, voice: 'alloy', ...extra });

  test('is charged by the character and comes byte for byte', async () => {
    const text = 'Größe 🙂';
    const script = { kind: 'ok', size: 200_000, type: 'audio/opus', framing: 'chunked' };
    const { charge, result, records } = await costs(script, async () => {
      const answer = await s.client.audio.speech.create(ask(text, { response_format: 'opus', speed: 1.25 }));
      return { type: answer.headers.get('content-type'), bytes: Buffer.from(await answer.arrayBuffer()) };
    });
    assert.equal(charge, 7n * a_character);
    assert.equal(result.type, 'audio/opus');
    assert.equal(sha(result.bytes), records[0].sha256);
    assert.equal(records[0].body.speed, 1.25);
  });

  test('flows piece by piece, and ends only when it is paid for', async () => {
    s.fake.queue.push({ kind: 'ok', size: 100_000, hold_half: 'half' });
    const raw = new RawClient(s.server.url);
    await raw.connected;
    await raw.send(request_bytes({ path: '/v1/audio/speech', key: s.account.key, body: ask('hello') }));
    await eventually('half of it is here while the provider still works', () => raw.bytes.length > 50_000);
    s.fake.open('half');
    const answer = await raw.response({ method: 'POST' });
    assert.equal(answer.complete, true);
    assert.equal(answer.body.length, 100_000);
    raw.socket.destroy();
  });

  test('as events', async () => {
    const { charge, result, records } = await costs({ kind: 'ok' }, () =>
      post('/v1/audio/speech', ask('hello', { stream_format: 'sse' })),
    );
    assert.equal(charge, 5n * a_character);
    assert.equal(sha(result.body), records[0].sha256);
    assert.equal(JSON.parse(result.events().at(-1)).type, 'speech.audio.done');
  });

  for (const kind of ['cut_mid_body', 'long_content_length', 'bad_chunk'])
    test(`that broke off never looks whole and is not charged: ${kind}`, async () => {
      const { charge, result } = await costs({ kind, size: 50_000 }, () => post('/v1/audio/speech', ask('hello')));
      assert.equal(charge, 0n);
      assert.equal(result.status, 200);
      assert.equal(result.complete, false);
      assert.ok(result.closed);
      assert.ok(!result.body.includes('"error"'), 'no words within the sound');
    });

  test('another route answers while nothing was sent', async () => {
    for (const kind of ['cut_before_head', 'cut_after_head', 'status', 'html', 'error_event', 'empty_body']) {
      const { charge, result } = await costs([{ kind }, { kind: 'ok' }], () =>
        post('/v1/audio/speech', { model: twice, input: 'hello', voice: 'x' }),
      );
      assert.equal(result.status, 200, kind);
      assert.equal(sha(result.body), sha(noise(3000)), kind);
      assert.equal(charge, 5n * a_character, kind);
    }
  });

  test('who leaves in the middle pays for it, and the provider stops', async () => {
    const { charge, records } = await costs({ kind: 'ok', size: 100_000, hold_half: 'left' }, async () => {
      const leaving = new AbortController();
      const answer = await s.client.audio.speech.create(ask('hello'), { signal: leaving.signal });
      await answer.body.getReader().read();
      leaving.abort();
      await s.fake.last.closed;
    });
    assert.equal(records[0].cancelled, true);
    assert.equal(charge, 5n * a_character);
  });
});

describe('transcriptions', () => {
  const transcribe = async (extra = {}, seconds = 2) =>
    s.client.audio.transcriptions.create({ file: await sound(seconds), model: listener, language: 'en', ...extra });

  test('are charged by the seconds that the provider reports, rounded up', async () => {
    const { charge, result, records } = await costs({ kind: 'ok', seconds: 2.4, text: 'hello there' }, () => transcribe());
    assert.equal(charge, 3n * a_second);
    assert.equal(result.text, 'hello there');
    const { form } = records[0];
    assert.equal(form.model, 'whisper-large "v3"', 'the name is spliced in place');
    assert.equal(form.language, 'en');
    assert.equal(sha(form.file.bytes), sha(wav(2)));
    const verbose = await costs({ kind: 'ok', seconds: 7.01 }, () => transcribe({ response_format: 'verbose_json' }));
    assert.equal(verbose.charge, 8n * a_second);
    assert.equal(verbose.result.duration, 7.01);
  });

  test('by the file where nobody tells, and marked so', async () => {
    for (const format of ['text', 'srt', 'vtt']) {
      const { charge, result } = await costs({ kind: 'ok', text: 'hello there' }, () => transcribe({ response_format: format }, 3));
      assert.equal(charge, 3n * a_second, format);
      assert.match(result, /hello there/);
      const records = (await s.server.usage_records()).filter((r) => r.model === listener);
      assert.equal(records.at(-1).estimated, true);
    }
    // A header that claims one sample changes nothing.
    const lied = await costs({ kind: 'ok', usage: 'absent' }, async () =>
      s.client.audio.transcriptions.create({ file: await sound(5, { claims: 2 }), model: listener }),
    );
    assert.equal(lied.charge, 5n * a_second);
    const absurd = await costs({ kind: 'ok', seconds: 1e9 }, () => transcribe());
    assert.equal(absurd.charge, 2n * a_second, 'a report that cannot be true');
  });

  test('by tokens', async () => {
    const { charge } = await costs({ kind: 'ok', usage: 'tokens' }, () => transcribe({ model: 'demo/listener-tokens' }));
    assert.equal(charge, 11n * 1_000n + 22n * 2_000n);
  });

  test('stream; a break in the middle is told and not charged', async () => {
    const { charge, result } = await costs({ kind: 'ok', text: 'one two three' }, async () => collect(await transcribe({ stream: true })));
    assert.equal(charge, 3n * a_second);
    assert.deepEqual(result.map((e) => e.type), [...Array(3).fill('transcript.text.delta'), 'transcript.text.done']);
    const broken = await costs({ kind: 'cut_mid_body', after: 2 }, async () => {
      await assert.rejects(async () => collect(await transcribe({ stream: true })));
    });
    assert.equal(broken.charge, 0n);
  });

  test('translations', async () => {
    const { charge, records } = await costs({ kind: 'ok', seconds: 1 }, async () =>
      s.client.audio.translations.create({ file: await sound(1), model: listener }),
    );
    assert.equal(charge, a_second);
    assert.ok(records[0].path.endsWith('/audio/translations'));
  });
});

test('a provider that falls silent is given up, truthfully and for nothing', async () => {
  const own = await stage({
    models: [models.find((m) => m.id === speaker), models.find((m) => m.id === painter)],
    provider: { first_byte_timeout_ms: 300, idle_timeout_ms: 300 },
  });
  try {
    const ask = (path, body) => call(own.server.url, { path, key: own.account.key, body });
    const speech = { model: speaker, input: 'hello', voice: 'x' };
    for (const [kind, path, body, status] of [
      ['stall_head', '/v1/audio/speech', speech, 504],
      ['stall_first', '/v1/audio/speech', speech, 504],
      ['stall_mid', '/v1/audio/speech', speech, 200],
      ['stall_head', '/v1/images/generations', { model: painter, prompt: 'x' }, 504],
      ['stall_mid', '/v1/images/generations', { model: painter, prompt: 'x', stream: true }, 200],
    ]) {
      own.fake.queue.push({ kind, after: 1 });
      const { charge, result } = await charge_of(own.server, own.account, () => ask(path, body));
      assert.equal(charge, 0n, `${kind} ${path}`);
      assert.equal(result.status, status, `${kind} ${path}`);
      if (status === 200) assert.equal(result.complete, false, `${kind} ${path}`);
    }
  } finally {
    await own.close();
  }
});

test('documents are ranked by the piece', async () => {
  const { charge } = await costs({ kind: 'ok' }, () =>
    post('/v1/rerank', { model: 'demo/ranker', query: 'q', documents: ['a', 'b', { text: 'c' }], top_n: 1 }),
  );
  assert.equal(charge, 3n * 10_000n);
});

test('nobody is served beyond the balance', async () => {
  const poor = await s.server.account('poor', { credit: '0.09' });
  const client = s.server.client(poor.key);
  await assert.rejects(client.images.generate({ model: painter, prompt: 'x', n: 3 }), { status: 402 });
  const before = s.fake.records.length;
  const { charge } = await charge_of(s.server, poor, () => client.images.generate({ model: painter, prompt: 'x', n: 2 }));
  assert.equal(charge, 2n * an_image);
  assert.equal(s.fake.records.length, before + 1);
});

describe('refusals', () => {
  const type = 'multipart/form-data; boundary=xYz';
  const field = (name, value) => `--xYz\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const file = (name, bytes = 'RIFF') =>
    `--xYz\r\ncontent-disposition: form-data; name="${name}"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n${bytes}\r\n`;
  const end = '--xYz--\r\n';
  const good = field('model', listener) + file('file');
  const cases = [
    ['no model', file('file') + end, 'model'],
    ['no file', field('model', listener) + end, 'file'],
    ['an empty file', field('model', listener) + file('file', '') + end, 'file'],
    ['two models', good + field('model', 'other') + end, 'model'],
    ['two files', good + file('file') + end, 'file'],
    ['a text for a file', field('model', listener) + field('file', 'RIFF') + end, 'file'],
    ['a file for a model', file('model') + file('file') + end, 'model'],
    ['a bad stream', good + field('stream', 'maybe') + end, 'stream'],
    ['a cut body', good],
    ['another boundary', good.replaceAll('xYz', 'other') + '--other--\r\n'],
    ['no boundary', good + end, undefined, 'multipart/form-data'],
    ['JSON', JSON.stringify({ model: listener }), undefined, 'application/json'],
    ['text behind the end', `${good}${end}more`],
  ];
  for (const [what, body, param, content_type = type] of cases)
    test(`a form with ${what}`, async () => {
      const asked = s.fake.records.length;
      const answer = await post('/v1/audio/transcriptions', body, { 'content-type': content_type });
      assert_error_body(answer, 400, { type: 'invalid_request_error', ...(param ? { param } : {}) });
      assert.equal(s.fake.records.length, asked, 'no provider was asked');
    });

  test('an upload above the limit, and one at it', async () => {
    const filled = (bytes) => {
      const form = good.replace('RIFF', 'x'.repeat(bytes - good.length - end.length + 4)) + end;
      assert.equal(form.length, bytes);
      return form;
    };
    const most = 1024 * 1024;
    assert.equal((await post('/v1/audio/transcriptions', filled(most), { 'content-type': type })).status, 200);
    const large = await post('/v1/audio/transcriptions', filled(most + 1), { 'content-type': type });
    assert_error_body(large, 413, { code: 'payload_too_large' });
  });

  test('bodies of JSON, models that serve something else, and files that are not there', async () => {
    for (const [path, body, param] of [
      ['/v1/images/generations', { model: painter }, 'prompt'],
      ['/v1/images/generations', { model: painter, prompt: '' }, 'prompt'],
      ['/v1/images/generations', { model: painter, prompt: 'x', n: 0 }, 'n'],
      ['/v1/images/generations', { model: painter, prompt: 'x', n: 11 }, 'n'],
      ['/v1/images/generations', { model: 'demo/chat:1', prompt: 'x' }, 'model'],
      ['/v1/audio/speech', { model: speaker, voice: 'x' }, 'input'],
      ['/v1/audio/speech', { model: speaker, input: ['x'] }, 'input'],
      ['/v1/audio/speech', { model: speaker, input: 'x', stream_format: 'ogg' }, 'stream_format'],
      ['/v1/chat/completions', { model: painter, messages: [{ role: 'user', content: 'x' }] }, 'model'],
    ])
      assert_error_body(await post(path, body), 400, { param });
    await assert.rejects(
      s.client.files.create({ file: await toFile(Buffer.from('{}'), 'a.jsonl'), purpose: 'batch' }),
      { status: 404 },
    );
  });

  test('what the provider says about the request is passed on', async () => {
    s.fake.queue.push({ kind: 'status', status: 400, message: 'no such voice' });
    await assert.rejects(s.client.audio.speech.create({ model: speaker, input: 'x', voice: 'none' }), {
      status: 400,
      message: /no such voice/,
    });
    s.fake.queue.push({ kind: 'status', status: 429, retry_after: 3 });
    await assert.rejects(s.client.images.generate({ model: painter, prompt: 'x' }), { status: 429 });
  });
});
