// Chat messages to tokens, by the chat template inside the model file.
import { Template } from "@huggingface/jinja";
import { invalid } from "./errors.mjs";

const CHATML =
  "{%- for message in messages -%}" +
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";
// What a control token of any known model looks like; candidates are then asked of the tokenizer.
const MARKUP = /<[|｜]?[^<>\s]{1,40}[|｜]?>|\[\/?[A-Z_]{2,20}\]/g;
const MARK = "\u0001part";

export class PromptBuilder {
  #model;
  #template;
  #bos;
  #eos;

  constructor(model) {
    this.#model = model;
    const source = model.fileInfo.metadata?.tokenizer?.chat_template;
    this.#template = new Template(typeof source === "string" && source !== "" ? source : CHATML);
    this.#bos = model.tokens.bosString ?? "";
    this.#eos = model.tokens.eosString ?? "";
  }

  /** Tokens of a conversation, ending where the assistant's answer begins. */
  chat(messages) {
    if (!messages.some(m => this.#hasControlToken(m.content))) {
      return this.#withBos(this.#model.tokenize(this.#render(messages), true));
    }
    // A message that spells a control token must stay text: otherwise a user could end their turn and speak
    // as somebody else. So the template is rendered around marks, and each message is tokenised by itself,
    // without control tokens.
    const text = this.#render(messages.map((m, i) => ({ ...m, content: `${MARK}${i}\u0002` })));
    const tokens = [];
    for (const piece of text.split(/(\u0001part\d+\u0002)/)) {
      if (piece === "") continue;
      const at = /^\u0001part(\d+)\u0002$/.exec(piece);
      if (at)
        tokens.push(...this.#model.tokenize(messages[Number(at[1])].content, false, "trimLeadingSpace"));
      else
        tokens.push(...this.#model.tokenize(piece, true, tokens.length > 0 ? "trimLeadingSpace" : undefined));
    }
    return this.#withBos(tokens);
  }

  /** Tokens of a raw prompt. Control tokens in the text stay text. */
  raw(prompt) {
    return Array.isArray(prompt) ? prompt : this.#withBos(this.#model.tokenize(prompt, false));
  }

  #render(messages) {
    const values = { add_generation_prompt: true, bos_token: this.#bos, eos_token: this.#eos, tools: null };
    try {
      return this.#template.render({ ...values, messages });
    } catch (e) {
      // Some templates know no system message: it then leads the first message of the user.
      const system = messages
        .filter(m => m.role === "system")
        .map(m => m.content)
        .join("\n");
      const rest = messages.filter(m => m.role !== "system").map(m => ({ ...m }));
      const first = rest.find(m => m.role === "user");
      if (system === "" || !first)
        throw invalid(`the model's chat template refused the messages: ${e.message}`, "messages");
      first.content = `${system}\n\n${first.content}`;
      try {
        return this.#template.render({ ...values, messages: rest });
      } catch (again) {
        throw invalid(`the model's chat template refused the messages: ${again.message}`, "messages");
      }
    }
  }

  #hasControlToken(text) {
    for (const [word] of text.matchAll(MARKUP)) {
      if (this.#model.tokenize(word, true).some(t => this.#model.isSpecialToken(t))) return true;
    }
    return false;
  }

  #withBos(tokens) {
    const { bos, shouldPrependBosToken } = this.#model.tokens;
    return shouldPrependBosToken && bos !== null && tokens[0] !== bos ? [bos, ...tokens] : tokens;
  }
}
