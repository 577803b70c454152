// Anthropic's Messages API as a wire of the fake provider (fake_wires.mjs). Further options of scripts:
//   redacted           data of a redacted thinking block in front of everything
//   blocks             further content blocks at the end, as they are (server tools, citations …)
//   first_blocks       the same in front of the text

import { finish_of, split, usage_of, words_of } from './fake_scripts.mjs';

const stop_reasons = { stop: 'end_turn', length: 'max_tokens', tool_calls: 'tool_use', content_filter: 'refusal' };
const stop_reason_of = (o) => stop_reasons[finish_of(o)] ?? finish_of(o);
const signature = 'c2lnbmVkIGJ5IG5vYm9keQ==';

/** The report in Messages' words: cached tokens stand beside input_tokens. */
function told(usage) {
  if (!usage) return usage;
  const { cached_tokens: cached = 0, cache_write_tokens: written = 0 } = usage.prompt_tokens_details ?? {};
  const input = usage.prompt_tokens;
  return {
    input_tokens: typeof input === 'number' ? input - cached - written : input,
    cache_creation_input_tokens: written,
    cache_read_input_tokens: cached,
    output_tokens: usage.completion_tokens,
  };
}

const with_usage = (usage) => (usage === undefined ? {} : { usage });
const id_of = (x) => x.record.id.replace('chatcmpl-', 'msg_');

function body(x) {
  const o = x.options;
  if (x.record.path.endsWith('/count_tokens')) {
    x.record.usage = null;
    return { input_tokens: o.prompt_tokens ?? 7 };
  }
  const words = words_of(o);
  const usage = usage_of(o, words);
  x.record.usage = usage ?? null;
  const content = [];
  if (o.redacted) content.push({ type: 'redacted_thinking', data: o.redacted });
  if (o.reasoning) content.push({ type: 'thinking', thinking: o.reasoning, signature });
  content.push(...(o.first_blocks ?? []));
  if (words.length > 0) content.push({ type: 'text', text: words.join('').trimEnd() });
  for (const { id, name, arguments: text } of o.calls ?? [])
    content.push({ type: 'tool_use', id, name, input: JSON.parse(text) });
  content.push(...(o.blocks ?? []));
  return {
    id: id_of(x),
    type: 'message',
    role: 'assistant',
    model: x.record.model,
    content,
    stop_reason: stop_reason_of(o),
    stop_sequence: null,
    ...with_usage(told(usage)),
  };
}

/** The blocks of an answer: how each begins and its deltas. */
function* blocks_of(o, words) {
  if (o.redacted) yield { start: { type: 'redacted_thinking', data: o.redacted }, deltas: [] };
  if (o.reasoning)
    yield {
      start: { type: 'thinking', thinking: '', signature: '' },
      deltas: split(o.reasoning).map((thinking) => ({ type: 'thinking_delta', thinking })),
      last: { type: 'signature_delta', signature },
    };
  for (const start of o.first_blocks ?? []) yield { start, deltas: [] };
  if (words.length > 0)
    yield { start: { type: 'text', text: '' }, deltas: words.map((text) => ({ type: 'text_delta', text })) };
  for (const { id, name, arguments: text } of o.calls ?? []) {
    const half = Math.ceil(text.length / 2);
    const pieces = [text.slice(0, half), text.slice(half)];
    yield {
      start: { type: 'tool_use', id, name, input: {} },
      is_content: true,
      deltas: pieces.map((partial_json) => ({ type: 'input_json_delta', partial_json })),
    };
  }
  for (const start of o.blocks ?? []) yield { start, deltas: [] };
}

function frames(x) {
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  const newline = o.crlf ? '\r\n' : '\n';
  const out = [];
  const add = (kind, data) =>
    out.push({
      kind,
      bytes: Buffer.from(`event: ${data.type}${newline}data: ${JSON.stringify(data)}${newline}${newline}`),
    });
  if (o.comments) out.push({ kind: 'comment', bytes: Buffer.from(`: PROCESSING${newline}${newline}`) });
  const report = told(usage);
  const message = { id: id_of(x), type: 'message', role: 'assistant', model: x.record.model, content: [] };
  Object.assign(message, { stop_reason: null, stop_sequence: null });
  add('role', { type: 'message_start', message: { ...message, ...with_usage(report && { ...report, output_tokens: 1 }) } });
  add('role', { type: 'ping' });
  let index = -1;
  for (const { start, deltas, last, is_content } of blocks_of(o, words)) {
    index += 1;
    add(is_content ? 'content' : 'role', { type: 'content_block_start', index, content_block: start });
    for (const delta of deltas) add('content', { type: 'content_block_delta', index, delta });
    if (last) add('role', { type: 'content_block_delta', index, delta: last });
    add('role', { type: 'content_block_stop', index });
  }
  // Reason and report are one event here; a late report is a late end.
  add(o.usage === 'late' ? 'usage' : 'finish', {
    type: 'message_delta',
    delta: { stop_reason: stop_reason_of(o), stop_sequence: null },
    ...with_usage(report && { output_tokens: report.output_tokens }),
  });
  add('done', { type: 'message_stop' });
  x.record.usage = usage ?? null;
  return out;
}

/** The text of the last message, be it a string or blocks. */
function last_text(content) {
  if (typeof content === 'string') return content;
  return Array.isArray(content) ? content.findLast((block) => block.type === 'text')?.text : undefined;
}

export const anthropic = {
  serves: (path) => path.endsWith('/messages') || path.endsWith('/messages/count_tokens'),
  read: ({ body: asked }) => ({
    model: asked?.model,
    stream: asked?.stream === true,
    include_usage: true,
    text: last_text(asked?.messages?.at?.(-1)?.content),
  }),
  body,
  frames,
  error: (_status, code, message) => ({ type: 'error', error: { type: code, message }, request_id: 'req_fake' }),
  stream_type: 'text/event-stream; charset=utf-8',
  error_frame: (code, message) =>
    `event: error\ndata: ${JSON.stringify({ type: 'error', error: { type: code, message } })}\n\n`,
  garbage_frame: 'event: content_block_delta\ndata: {"type":"content_bl\n\n',
  done_frame: 'event: message_stop\ndata: {"type":"message_stop"}\n\n',
};
