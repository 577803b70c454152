// Ollama's own API as a wire of the fake provider (fake_wires.mjs): /api/chat, /api/generate, /api/embed. Streams are
// lines. Further options of scripts:
//   without_ids        calls have no ids, as older versions send them

import { finish_of, split, usage_of, words_of } from './fake_scripts.mjs';

const is_generate = (x) => x.record.path.endsWith('/api/generate');
const created_at = '2026-01-01T00:00:00.000000Z';

/** The report in Ollama's words; null and absent are nothing at all. */
const told = (usage) =>
  usage
    ? {
        total_duration: 1,
        load_duration: 1,
        prompt_eval_count: usage.prompt_tokens,
        prompt_eval_duration: 1,
        eval_count: usage.completion_tokens,
        eval_duration: 1,
      }
    : {};

const calls_of = (o) =>
  o.calls?.map(({ id, name, arguments: text }, index) => ({
    ...(o.without_ids ? {} : { id }),
    function: { index, name, arguments: JSON.parse(text) },
  }));

/** What is said, as a message of chat or as members of generate. */
const said = (x, content, more = {}) =>
  is_generate(x) ? { response: content, ...more } : { message: { role: 'assistant', content, ...more } };

const line = (x, members, done = false) => ({ model: x.record.model, created_at, ...members, done });

const last = (x, usage) => ({ done_reason: finish_of(x.options) === 'length' ? 'length' : 'stop', ...told(usage) });

function vectors_of(x) {
  const { body } = x.record;
  const length = body.dimensions ?? x.options.dimensions ?? 4;
  const prompt = x.options.prompt_tokens ?? 7;
  x.record.usage = { prompt_tokens: prompt, total_tokens: prompt };
  return {
    model: x.record.model,
    embeddings: [body.input].flat().map((_, i) => Array.from({ length }, (_v, d) => i + (d + 1) / 8)),
    total_duration: 1,
    load_duration: 1,
    prompt_eval_count: prompt,
  };
}

function body(x) {
  if (x.record.path.endsWith('/api/embed')) return vectors_of(x);
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  x.record.usage = usage ?? null;
  const more = {
    ...(o.reasoning ? { thinking: o.reasoning } : {}),
    ...(o.calls ? { tool_calls: calls_of(o) } : {}),
  };
  return { ...line(x, said(x, words.join('').trimEnd(), more), true), ...last(x, usage) };
}

function frames(x) {
  const o = x.options;
  const words = words_of(o);
  const usage = usage_of(o, words);
  const newline = o.crlf ? '\r\n' : '\n';
  const out = [];
  const add = (kind, data) => out.push({ kind, bytes: Buffer.from(`${JSON.stringify(data)}${newline}`) });
  // There are no comments between lines; an empty line is the nearest.
  if (o.comments) out.push({ kind: 'comment', bytes: Buffer.from(newline) });
  for (const thinking of split(o.reasoning ?? '')) add('content', line(x, said(x, '', { thinking })));
  for (const word of words) add('content', line(x, said(x, word)));
  for (const call of calls_of(o) ?? []) add('content', line(x, said(x, '', { tool_calls: [call] })));
  // Reason, report and end are one line here; a late report is a late end.
  add(o.usage === 'late' ? 'usage' : 'finish', { ...line(x, said(x, ''), true), ...last(x, usage) });
  x.record.usage = usage ?? null;
  return out;
}

export const ollama = {
  serves: (path) => ['/api/chat', '/api/generate', '/api/embed'].some((end) => path.endsWith(end)),
  read: ({ path, body: asked }) => ({
    model: asked?.model,
    stream: !path.endsWith('/api/embed') && asked?.stream !== false,
    include_usage: true,
    text: asked?.messages?.at?.(-1)?.content ?? asked?.prompt ?? [asked?.input].flat()[0],
  }),
  body,
  frames,
  reports_at_finish: true,
  error: (_status, _code, message) => ({ error: message }),
  stream_type: 'application/x-ndjson',
  error_frame: (_code, message) => `${JSON.stringify({ error: message })}\n`,
  garbage_frame: '{"model":"m","messa\n',
  done_frame: `${JSON.stringify({ model: 'm', created_at, message: { content: '' }, done: true, done_reason: 'stop' })}\n`,
};
