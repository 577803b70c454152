// Images and sound as a wire of the fake provider (fake_wires.mjs), as OpenAI serves them. Further options of scripts:
//   images             images in the answer (as many as asked for)
//   size               bytes of one image, or of the sound (3000)
//   url                true: images are told by address
//   seconds            length that a transcription reports (2.4)
//   usage              absent | tokens (duration for transcriptions, absent for images and speech)
//   partials           partial images of a stream (2)
//   done               true: a stream ends with [DONE] as well
//   type               content type of the sound (audio/mpeg), or of a transcription
//   hold_half          name of a gate that waits within the body
// A form is read by Node's own reader, so that what arrives is what another program reads. `record.form` has its fields
// and files, `record.units` what the provider would charge for: images, characters or seconds.

import { words_of } from './fake_scripts.mjs';

const path_of = /\/(images\/(?:generations|edits|variations)|audio\/(?:speech|transcriptions|translations))$/;
const kind_of = (x) => path_of.exec(x.record.path)[1].split('/');
const is_image = (x) => kind_of(x)[0] === 'images';

/** Bytes that tell where they stand, so that lost and doubled ones show. */
export function noise(length, seed = 1) {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; ++i) bytes[i] = (i * 31 + (i >> 8) * 7 + seed) & 0xff;
  return bytes;
}

async function read({ body, request }) {
  const type = request.headers['content-type'] ?? '';
  if (!type.startsWith('multipart/')) {
    const stream = body?.stream === true || body?.stream_format === 'sse';
    return { model: body?.model, stream, text: body?.prompt ?? body?.input, form: null };
  }
  const form = {};
  for (const [name, value] of await new Response(request.body, { headers: { 'content-type': type } }).formData()) {
    const told =
      typeof value === 'string' ? value : { name: value.name, type: value.type, bytes: Buffer.from(await value.arrayBuffer()) };
    form[name] = name in form ? [form[name], told].flat() : told;
  }
  return { model: form.model, stream: form.stream === 'true', text: form.prompt, form };
}

const tokens = { input_tokens: 11, output_tokens: 22, total_tokens: 33 };
const asked = (x, name) => x.record.form?.[name] ?? x.record.body?.[name];

const look = (x) => ({ size: '1024x1024', quality: 'low', output_format: asked(x, 'output_format') ?? 'png' });

function images(x) {
  const o = x.options;
  const count = o.images ?? Number(asked(x, 'n') ?? 1);
  x.record.units = count;
  x.record.usage = o.usage === 'tokens' ? tokens : null;
  const one = (_, i) => (o.url ? { url: `https://images.example/${i}.png` } : { b64_json: noise(o.size ?? 3000, i).toString('base64') });
  return {
    created: 1700000000,
    data: Array.from({ length: count }, one),
    ...(o.usage === 'tokens' ? { usage: tokens, ...look(x) } : {}),
  };
}

function usage_of_text(o) {
  if (o.usage === 'absent') return {};
  return { usage: o.usage === 'tokens' ? { type: 'tokens', ...tokens } : { type: 'duration', seconds: Math.ceil(o.seconds ?? 2.4) } };
}

function transcription(x) {
  const o = x.options;
  const format = asked(x, 'response_format') ?? 'json';
  const text = words_of(o).join('').trimEnd();
  x.record.units = Math.ceil(o.seconds ?? 2.4);
  x.record.usage = o.usage === 'tokens' ? tokens : null;
  if (format === 'text') return Buffer.from(`${text}\n`);
  if (format === 'srt') return Buffer.from(`1\n00:00:00,000 --> 00:00:02,400\n${text}\n`);
  if (format === 'vtt') return Buffer.from(`WEBVTT\n\n00:00.000 --> 00:02.400\n${text}\n`);
  if (format !== 'verbose_json') return { text, ...usage_of_text(o) };
  const duration = o.usage === 'absent' ? {} : { duration: o.seconds ?? 2.4 };
  return { task: 'transcribe', language: 'english', ...duration, text, segments: [{ id: 0, start: 0, end: 2.4, text }] };
}

function body(x) {
  if (is_image(x)) return images(x);
  if (kind_of(x)[1] !== 'speech') return transcription(x);
  x.record.usage = null;
  x.record.units = [...x.record.body.input].length;
  return noise(x.options.size ?? 3000);
}

function body_type(x) {
  const [kind, what] = kind_of(x);
  if (kind === 'audio' && what === 'speech') return x.options.type ?? 'audio/mpeg';
  const format = kind === 'audio' ? (asked(x, 'response_format') ?? 'json') : 'json';
  if (x.options.type) return x.options.type;
  return format.endsWith('json') ? 'application/json' : 'text/plain; charset=utf-8';
}

function frames(x) {
  const o = x.options;
  const out = [];
  const add = (kind, event) =>
    out.push({ kind, bytes: Buffer.from(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`) });
  const usage = o.usage === 'tokens' ? { usage: tokens } : {};
  x.record.usage = o.usage === 'tokens' ? tokens : null;
  const [, what] = kind_of(x);
  if (is_image(x)) {
    const name = what === 'edits' ? 'image_edit' : 'image_generation';
    const count = o.images ?? Number(asked(x, 'n') ?? 1);
    x.record.units = count;
    for (let i = 0; i < count; ++i) {
      const image = (seed) => noise(o.size ?? 3000, seed).toString('base64');
      for (let p = 0; p < (o.partials ?? 2); ++p)
        add('content', { type: `${name}.partial_image`, b64_json: image(p), partial_image_index: p });
      add(i + 1 < count ? 'content' : 'finish', { type: `${name}.completed`, b64_json: image(9), ...usage });
    }
  } else if (what === 'speech') {
    x.record.units = [...x.record.body.input].length;
    for (let i = 0; i < (o.frames ?? 4); ++i)
      add('content', { type: 'speech.audio.delta', audio: noise(o.size ?? 3000, i).toString('base64') });
    add('finish', { type: 'speech.audio.done', ...usage });
  } else {
    const words = words_of(o);
    x.record.units = Math.ceil(o.seconds ?? 2.4);
    for (const delta of words) add('content', { type: 'transcript.text.delta', delta });
    add('finish', { type: 'transcript.text.done', text: words.join('').trimEnd(), ...usage_of_text(o) });
  }
  if (o.done) out.push({ kind: 'done', bytes: Buffer.from('data: [DONE]\n\n') });
  return out;
}

export const media = {
  serves: (path) => path_of.test(path),
  read,
  body,
  body_type,
  frames,
  error: (_status, code, message) => ({ error: { message, type: code, param: null, code } }),
  stream_type: 'text/event-stream; charset=utf-8',
  error_frame: (code, message) =>
    `event: error\ndata: ${JSON.stringify({ type: 'error', error: { message, type: code, code } })}\n\n`,
  garbage_frame: 'data: {"type":"x","del\n\n',
  done_frame: 'data: [DONE]\n\n',
};

