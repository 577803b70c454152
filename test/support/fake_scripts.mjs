// What the fake provider can do with one request: correct answers and every way of going wrong. The words are those of
// OpenAI's API here; other APIs tell the same scripts in theirs (fake_wires.mjs).
//
// A script is a plain object `{ kind, ...options }`. Options shared by all kinds:
//   frames             number of content deltas (10)
//   text               whole content, one delta for each of its words
//   prompt_tokens      reported usage (7)
//   completion_tokens  reported usage (= frames)
//   reasoning          text that is told as thoughts before the content, one delta for each of its words
//   calls              tool calls behind the content, `[{ id, name, arguments }]`, arguments in pieces; without `text`
//                      there is no content then. Each counts as 5 completion tokens
//   finish             finish reason (stop, or tool_calls with calls)
//   cached, written    of the prompt tokens, those read from and written to a cache
//   dimensions         length of the vectors that /embeddings answers with (4)
//   usage              present | absent | null | negative | absurd | text | with_finish | every (present), or
//                      late: waits at the gate that option `late` names, behind the finish chunk
//   after              content frames sent before a fault (3); 0 = only the role frame; -1 = only the head
//   how                fin | rst: how a cut closes the connection (fin)
//   framing            chunked | length | close (chunked for streams, length for JSON)
//   packets            frame | bytes | odd | pairs: how frames are laid into writes (frame)
//   crlf, comments     true: lines end in CR LF; `: comment` lines stand between frames
//   huge, multibyte    extra characters in each content delta; true: content of multi-byte characters
//   hold, hold_after   name of a gate that the script waits at, and after how many content frames (0)
//   hold_head          name of a gate awaited before the head
//   delay_ms           pause before each content frame, where a test is about time itself
//   status, retry_after, code, message    for `kind: "status"`

const random_words = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta'];
const wide_words = ['naïve', 'Größe', '東京', '🙂🚀', 'Ω≈ç', 'e\u0301'];

export const split = (text) => text.match(/\s*\S+\s*/g) ?? [];

export function words_of(o) {
  if (o.calls && o.text === undefined) return [];
  if (o.text !== undefined) return split(o.text);
  const source = o.multibyte ? wide_words : random_words;
  const filler = o.huge ? 'x'.repeat(o.huge) : '';
  return Array.from({ length: o.frames ?? 10 }, (_, i) => `${source[i % source.length]}${filler} `);
}

/** The usage object this script reports, or null when it reports none. */
export function usage_of(o, words) {
  const prompt = o.prompt_tokens ?? 7;
  const reasoning = split(o.reasoning ?? '').length;
  const completion = o.completion_tokens ?? words.length + reasoning + 5 * (o.calls?.length ?? 0);
  switch (o.usage ?? 'present') {
    case 'absent':
      return undefined;
    case 'null':
      return null;
    case 'negative':
      return { prompt_tokens: prompt, completion_tokens: -5, total_tokens: prompt - 5 };
    case 'absurd':
      return { prompt_tokens: prompt, completion_tokens: 1e15, total_tokens: 1e15 + prompt };
    case 'text':
      return { prompt_tokens: `${prompt}`, completion_tokens: 'many', total_tokens: 'all' };
    default:
      return {
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: prompt + completion,
        ...(o.cached || o.written
          ? { prompt_tokens_details: { cached_tokens: o.cached ?? 0, cache_write_tokens: o.written ?? 0 } }
          : {}),
        ...(reasoning ? { completion_tokens_details: { reasoning_tokens: reasoning } } : {}),
      };
  }
}

export const finish_of = (o) => o.finish ?? (o.calls ? 'tool_calls' : 'stop');
const is_text = (x) => x.record.path.endsWith('/completions') && !x.record.path.endsWith('/chat/completions');

function chunk(x, choices, extra) {
  return JSON.stringify({
    id: x.record.id,
    object: is_text(x) ? 'text_completion' : 'chat.completion.chunk',
    created: 1700000000,
    model: x.record.model,
    choices,
    ...extra,
  });
}

const delta = (d, finish_reason = null) => [{ index: 0, delta: d, logprobs: null, finish_reason }];
const text_delta = (text, finish_reason = null) => [{ index: 0, text, logprobs: null, finish_reason }];

/** The pieces in which tool calls are streamed: id and name first, then the arguments in two halves. */
function* call_deltas(calls) {
  for (const [index, { id, name, arguments: text }] of calls.entries()) {
    const half = Math.ceil(text.length / 2);
    yield { tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] };
    for (const piece of [text.slice(0, half), text.slice(half)])
      yield { tool_calls: [{ index, function: { arguments: piece } }] };
  }
}

function openai_frames(x) {
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  const asked = x.record.include_usage || o.usage_unasked;
  const newline = o.crlf ? '\r\n' : '\n';
  const frames = [];
  const add = (kind, text) => frames.push({ kind, bytes: Buffer.from(`data: ${text}${newline}${newline}`) });
  const extra = (i) => {
    if (o.usage === 'every')
      return { usage: { prompt_tokens: 7, completion_tokens: i, total_tokens: 7 + i } };
    return asked && o.usage_null_frames ? { usage: null } : {};
  };
  if (o.comments) frames.push({ kind: 'comment', bytes: Buffer.from(`: PROCESSING${newline}${newline}`) });
  const as_text = is_text(x);
  if (!as_text) add('role', chunk(x, delta({ role: 'assistant', content: '' }), extra(0)));
  for (const thought of split(o.reasoning ?? ''))
    add('content', chunk(x, delta({ reasoning_content: thought }), extra(0)));
  words.forEach((word, i) => {
    if (o.comments && i % 2 === 1) {
      frames.push({ kind: 'comment', bytes: Buffer.from(`: keep-alive ${i}${newline}${newline}`) });
    }
    add('content', chunk(x, as_text ? text_delta(word) : delta({ content: word }), extra(i + 1)));
  });
  for (const piece of call_deltas(o.calls ?? [])) add('content', chunk(x, delta(piece), extra(words.length)));
  const with_finish = o.usage === 'with_finish' ? { usage } : extra(words.length);
  add('finish', chunk(x, as_text ? text_delta('', 'stop') : delta({}, finish_of(o)), with_finish));
  if (o.usage === 'with_finish') x.record.usage = usage;
  else if (asked && usage !== undefined) {
    add('usage', chunk(x, [], { usage }));
    x.record.usage = usage;
  }
  add('done', '[DONE]');
  return frames;
}

/** Lays frames into the writes that the script's `packets` option asks for. */
export function* packets_of(frames, how) {
  if (how === 'bytes') {
    for (const f of frames) for (const byte of f.bytes) yield Buffer.of(byte);
  } else if (how === 'odd') {
    const all = Buffer.concat(frames.map((f) => f.bytes));
    for (let at = 0; at < all.length; at += 37) yield all.subarray(at, at + 37);
  } else if (how === 'pairs') {
    for (let i = 0; i < frames.length; i += 2)
      yield Buffer.concat(frames.slice(i, i + 2).map((f) => f.bytes));
  } else for (const f of frames) yield f.bytes;
}

const stream_head = (x) => ({ 'content-type': x.wire.stream_type, 'cache-control': 'no-cache' });

/** Frames up to the point of failure: head only, role only, or `after` content frames. */
function frames_before_fault(frames, after) {
  if (after < 0) return [];
  let seen = 0;
  const out = [];
  for (const f of frames) {
    if (f.kind === 'content' && seen === after) break;
    if (f.kind === 'content') seen += 1;
    if (f.kind === 'finish') break;
    out.push(f);
  }
  return out;
}

async function send_frames(x, frames) {
  const o = x.options;
  let content = 0;
  if (o.packets && o.packets !== 'frame') {
    for (const f of frames) if (f.kind !== 'usage') x.trimmed.update(f.bytes);
    for (const packet of packets_of(frames, o.packets)) await x.write(packet, { trimmed: true });
    x.record.content_frames = frames.filter((f) => f.kind === 'content').length;
    return;
  }
  for (const f of frames) {
    if (f.kind === 'content') {
      if (o.hold && content === (o.hold_after ?? 0)) await x.gate(o.hold);
      content += 1;
    }
    if (f.kind === 'usage' && o.usage === 'late') await x.gate(o.late ?? 'usage');
    if (o.delay_ms && f.kind === 'content') await new Promise((r) => setTimeout(r, o.delay_ms));
    await x.write(f.bytes, { trimmed: f.kind === 'usage' });
    if (f.kind === 'content') x.record.content_frames += 1;
  }
}

/** Answers of endpoints that tell no words; null where words are told. */
function other_body(x) {
  const { path, body, model } = x.record;
  const o = x.options;
  const prompt = o.prompt_tokens ?? 7;
  const list = (value) => (Array.isArray(value) ? value : [value]);
  if (path.endsWith('/embeddings')) {
    const length = body.dimensions ?? o.dimensions ?? 4;
    const vectors = list(body.input).map((_, i) => Float32Array.from({ length }, (_v, d) => i + (d + 1) / 8));
    const encoded = (vector) =>
      body.encoding_format === 'base64' ? Buffer.from(vector.buffer).toString('base64') : [...vector];
    return {
      object: 'list',
      data: vectors.map((vector, index) => ({ object: 'embedding', index, embedding: encoded(vector) })),
      model,
      usage: { prompt_tokens: prompt, total_tokens: prompt },
    };
  }
  if (path.endsWith('/rerank'))
    return {
      id: x.record.id,
      model,
      results: body.documents.map((_, index) => ({ index, relevance_score: 1 / (index + 1) })),
      usage: { total_tokens: prompt },
    };
  if (path.endsWith('/moderations'))
    return {
      id: 'modr-1',
      model,
      results: list(body.input).map((text) => {
        const flagged = `${text}`.includes('violence');
        return { flagged, categories: { violence: flagged }, category_scores: { violence: flagged ? 0.9 : 0.1 } };
      }),
      usage: { prompt_tokens: prompt, total_tokens: prompt },
    };
  return null;
}

function message_of(o, words) {
  return {
    role: 'assistant',
    content: o.calls && words.length === 0 ? null : words.join('').trimEnd(),
    refusal: null,
    ...(o.reasoning ? { reasoning_content: o.reasoning } : {}),
    ...(o.calls
      ? {
          tool_calls: o.calls.map(({ id, name, arguments: text }) => ({
            id,
            type: 'function',
            function: { name, arguments: text },
          })),
        }
      : {}),
  };
}

function openai_body(x) {
  const other = other_body(x);
  if (other) {
    x.record.usage = other.usage;
    return other;
  }
  const words = words_of(x.options);
  const usage = usage_of(x.options, words);
  x.record.usage = usage ?? null;
  return {
    id: x.record.id,
    object: is_text(x) ? 'text_completion' : 'chat.completion',
    created: 1700000000,
    model: x.record.model,
    choices: [
      is_text(x)
        ? { text: words.join('').trimEnd(), index: 0, logprobs: null, finish_reason: 'stop' }
        : { index: 0, finish_reason: finish_of(x.options), logprobs: null, message: message_of(x.options, words) },
    ],
    ...(usage === undefined ? {} : { usage }),
  };
}

/** OpenAI's API as a wire; what its members mean stands in fake_wires.mjs. */
export const openai = {
  serves: () => true,
  read: ({ body }) => ({
    model: body?.model,
    stream: body?.stream === true,
    include_usage: body?.stream_options?.include_usage === true,
    text: body?.messages?.at?.(-1)?.content ?? body?.prompt ?? body?.input,
  }),
  body: openai_body,
  frames: openai_frames,
  error: (_status, code, message) => ({ error: { message, type: code, param: null, code } }),
  stream_type: 'text/event-stream; charset=utf-8',
  error_frame: (code, message) => `data: ${JSON.stringify({ error: { message, type: code, param: null, code: null } })}\n\n`,
  garbage_frame: 'data: {"id":"x","choi\n\n',
  done_frame: 'data: [DONE]\n\n',
};

/** The whole answer; a wire whose answers are no JSON gives bytes. */
function completion_body(x) {
  const body = x.wire.body(x);
  return Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
}
const body_head = (x) => ({ 'content-type': x.wire.body_type?.(x) ?? 'application/json' });

async function write_body(x, body) {
  if (!x.options.hold_half) return x.write(body);
  const half = Math.floor(body.length / 2);
  await x.write(body.subarray(0, half));
  await x.gate(x.options.hold_half);
  await x.write(body.subarray(half));
}

async function ok(x) {
  if (x.options.hold_head) await x.gate(x.options.hold_head);
  if (x.record.stream) {
    await x.head(200, stream_head(x), { framing: x.options.framing ?? 'chunked', frames: true });
    const frames = x.wire.frames(x);
    if (x.options.framing === 'length') x.declare(frames.reduce((n, f) => n + f.bytes.length, 0));
    await send_frames(x, frames);
    return x.end();
  }
  if (x.options.hold) await x.gate(x.options.hold);
  const body = completion_body(x);
  await x.head(
    200,
    body_head(x),
    { framing: x.options.framing ?? 'length', length: body.length },
  );
  await write_body(x, body);
  return x.end();
}

/** Sends the part of the answer before the fault. For JSON that is a head and half of the body. */
async function partial(x, { in_frame = false } = {}) {
  const after = x.options.after ?? 3;
  if (!x.record.stream) {
    const body = completion_body(x);
    await x.head(
      200,
      body_head(x),
      { framing: x.options.framing ?? 'length', length: body.length },
    );
    if (after >= 0) await x.write(body.subarray(0, Math.floor(body.length / 2)));
    return;
  }
  await x.head(200, stream_head(x), { framing: x.options.framing ?? 'chunked' });
  const frames = x.wire.frames(x);
  x.record.usage = null;
  const before = frames_before_fault(frames, after);
  await send_frames(x, before);
  if (in_frame) {
    const next = frames[before.length].bytes;
    await x.write(next.subarray(0, Math.floor(next.length / 2)));
  }
}

/** A whole stream up to and including one kind of frame. */
async function through(x, last_kind) {
  await x.head(200, stream_head(x), { framing: x.options.framing ?? 'chunked' });
  const frames = x.wire.frames(x);
  if (last_kind !== 'usage' && !x.wire.reports_at_finish) x.record.usage = null;
  const last = frames.findLastIndex((f) => f.kind === last_kind);
  await send_frames(x, frames.slice(0, last + 1));
}

async function send_status(x, status, code, headers = {}) {
  const message = x.options.message ?? `upstream says ${status}`;
  const body = Buffer.from(JSON.stringify(x.wire.error(status, code, message)));
  await x.head(
    status,
    { 'content-type': 'application/json', ...headers },
    { framing: 'length', length: body.length },
  );
  await x.write(body);
  return x.end();
}

export const scripts = {
  ok,
  async cut_before_head(x) {
    await x.cut();
  },
  async cut_mid_head(x) {
    await x.raw('HTTP/1.1 200 OK\r\ncontent-type: appli');
    await x.cut();
  },
  async cut_after_head(x) {
    x.options.after = -1;
    await partial(x);
    await x.cut();
  },
  async cut_before_content(x) {
    x.options.after = 0;
    await partial(x);
    await x.cut();
  },
  async cut_mid_body(x) {
    await partial(x);
    await x.cut();
  },
  async cut_mid_frame(x) {
    await partial(x, { in_frame: true });
    await x.cut();
  },
  async cut_after_finish(x) {
    if (x.record.stream) await through(x, x.options.usage === 'present' ? 'usage' : 'finish');
    else {
      x.options.framing = 'chunked';
      const body = completion_body(x);
      await x.head(200, body_head(x), { framing: 'chunked' });
      await x.write(body);
    }
    await x.cut();
  },
  async end_without_done(x) {
    await through(x, 'finish');
    await x.end();
  },
  async end_without_finish(x) {
    await partial(x);
    await x.end();
  },
  async stall_head(x) {
    await x.forever();
  },
  async stall_first(x) {
    x.options.after = -1;
    await partial(x);
    await x.forever();
  },
  async stall_before_content(x) {
    x.options.after = 0;
    await partial(x);
    await x.forever();
  },
  async stall_mid(x) {
    await partial(x);
    await x.forever();
  },
  async garbage_head(x) {
    await x.raw('\x00\x01SSH-2.0-not http at all\r\n\r\n');
    await x.cut();
  },
  async garbage_version(x) {
    await x.raw('HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n');
    await x.cut();
  },
  async garbage_json(x) {
    const body = Buffer.from('{"id":"x","choices":[{"index":0,');
    await x.head(200, { 'content-type': 'application/json' }, { framing: 'length', length: body.length });
    await x.write(body);
    await x.end();
  },
  async html(x) {
    const body = Buffer.from('<html><body>It works!</body></html>');
    await x.head(200, { 'content-type': 'text/html' }, { framing: 'length', length: body.length });
    await x.write(body);
    await x.end();
  },
  async garbage_frame(x) {
    await partial(x);
    await x.write(Buffer.from(x.wire.garbage_frame));
    await x.write(Buffer.from(x.wire.done_frame));
    await x.end();
  },
  async long_content_length(x) {
    const body = completion_body(x);
    await x.head(
      200,
      body_head(x),
      { framing: 'length', length: body.length + 100 },
    );
    await x.write(body);
    await x.cut();
  },
  async short_content_length(x) {
    const body = completion_body(x);
    await x.head(
      200,
      body_head(x),
      { framing: 'length', length: body.length - 20 },
    );
    await x.raw(body);
    await x.cut();
  },
  async two_content_lengths(x) {
    await x.raw('HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!');
    await x.cut();
  },
  async bad_chunk(x) {
    x.options.framing = 'chunked';
    await partial(x);
    await x.raw('zz\r\nhello\r\n0\r\n\r\n');
    await x.cut();
  },
  async status(x) {
    if (x.options.hold_head) await x.gate(x.options.hold_head);
    if (x.options.hold_head) await x.gate(x.options.hold_head);
    const status = Number(x.options.status ?? 500);
    const headers = x.options.retry_after === undefined ? {} : { 'retry-after': `${x.options.retry_after}` };
    await send_status(x, status, x.options.code ?? 'upstream_error', headers);
  },
  async error_event(x) {
    if (!x.record.stream) {
      const body = Buffer.from(JSON.stringify(x.wire.error(200, 'server_error', 'overloaded')));
      await x.head(200, { 'content-type': 'application/json' }, { framing: 'length', length: body.length });
      await x.write(body);
      return x.end();
    }
    await partial(x);
    await x.write(Buffer.from(x.wire.error_frame('server_error', 'overloaded')));
    if (x.options.done) await x.write(Buffer.from(x.wire.done_frame));
    return x.end();
  },
  async error_first(x) {
    x.options.after = -1;
    await scripts.error_event(x);
  },
  async empty_stream(x) {
    await x.head(200, stream_head(x), { framing: 'chunked' });
    await x.end();
  },
  async empty_body(x) {
    await x.head(200, { 'content-type': 'application/json' }, { framing: 'length', length: 0 });
    await x.end();
  },
  async done_only(x) {
    await x.head(200, stream_head(x), { framing: 'chunked' });
    await x.write(Buffer.from(x.wire.done_frame));
    await x.end();
  },
  async role_only(x) {
    x.options.frames = 0;
    x.options.text = undefined;
    await ok(x);
  },
};
