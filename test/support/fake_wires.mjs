// The APIs that the fake provider speaks, chosen by the path of a request. A script says what happens (`kind`,
// `reasoning`, `text`, `calls`, `finish`, `usage` …); a wire says it in an API's words. The journal is in OpenAI's words
// for all of them: `record.usage` has `prompt_tokens` (with what was cached) and `completion_tokens`.
//
// To add one: a file `fake_wire_NAME.mjs` that exports an object of the members below, and its line in `wires`.
//
//   serves(path)                 whether a request of this path is for it
//   read({ path, body, request }) what the scripts must know of a request: `{ model, stream, include_usage, text }`; `text`
//                                is that of the last message (it may begin with `fake:`). `body` is null when it is no JSON
//   body_type(x)                 content type of a whole answer (application/json)
//   body(x)                      the object or the bytes of the whole answer; sets `x.record.usage` (null when none is reported)
//   frames(x)                    all frames of a whole stream, `{ kind, bytes }`; sets `x.record.usage`. Faults cut by kind:
//                                  content  text, thoughts or a piece of a call; scripts count these
//                                  finish   says why it ended; usage: the report, when it stands alone; done: the last one
//                                  role     anything else that is needed and says nothing (starts, pings, comments)
//   error(status, code, message) the object of an error body
//   stream_type                  content type of a stream
//   error_frame(code, message)   text of an error inside a stream
//   reports_at_finish            true: the frame of kind finish has the report, too
//   garbage_frame, done_frame    texts: a frame that cannot be read; the last frame
//
// `words_of`, `split`, `usage_of`, `finish_of` of fake_scripts.mjs give what a script's options mean; `x.options` are
// those, `x.record.model`, `.id` and `.path` what the answer repeats.

import { openai } from './fake_scripts.mjs';
import { anthropic } from './fake_wire_anthropic.mjs';
import { gemini } from './fake_wire_gemini.mjs';
import { media } from './fake_wire_media.mjs';
import { ollama } from './fake_wire_ollama.mjs';
import { responses } from './fake_wire_responses.mjs';

const wires = [anthropic, gemini, ollama, media, responses, openai]; // the last one takes what is left

export const wire_of = (path) => wires.find((wire) => wire.serves(path));
