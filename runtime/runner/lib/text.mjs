// Turns tokens into text that can be sent: whole characters only, nothing of a stop string.

const REPLACEMENT = "\ufffd";

/** Decodes tokens one by one; keeps back the bytes of an unfinished character. */
export class TokenDecoder {
  #detokenize;
  #pending = [];
  #before = [];

  /** @param detokenize (tokens, tokensBefore) => text */
  constructor(detokenize) {
    this.#detokenize = detokenize;
  }

  /** The text that became certain with this token, possibly "". */
  push(token) {
    this.#pending.push(token);
    const text = this.#detokenize(this.#pending, this.#before);
    // A character has at most four bytes, so more than that many tokens cannot be waiting for one.
    if (text.endsWith(REPLACEMENT) && this.#pending.length < 5) return "";
    this.#before = [...this.#before, ...this.#pending].slice(-8);
    this.#pending = [];
    return text;
  }

  /** What is left at the end; the bytes of a character that was never finished are dropped. */
  end() {
    if (this.#pending.length === 0) return "";
    const text = this.#detokenize(this.#pending, this.#before);
    this.#pending = [];
    return text.replace(/\ufffd+$/, "");
  }
}

/** Cuts a text stream before the first stop string. Holds back what may be the beginning of one. */
export class StopFilter {
  #stops;
  #held = "";
  stopped = false;

  constructor(stops) {
    this.#stops = stops;
  }

  /** The text that may be sent now. After `stopped` nothing more comes. */
  push(text) {
    if (this.stopped) return "";
    if (this.#stops.length === 0) return text;
    const all = this.#held + text;
    let at = -1;
    for (const s of this.#stops) {
      const i = all.indexOf(s);
      if (i >= 0 && (at < 0 || i < at)) at = i;
    }
    if (at >= 0) {
      this.stopped = true;
      this.#held = "";
      return all.slice(0, at);
    }
    let hold = 0;
    for (const s of this.#stops) {
      for (let n = Math.min(s.length - 1, all.length); n > hold; n--) {
        if (s.startsWith(all.slice(all.length - n))) {
          hold = n;
          break;
        }
      }
    }
    this.#held = all.slice(all.length - hold);
    return all.slice(0, all.length - hold);
  }

  /** What was held back, when the stream ended without a stop string. */
  end() {
    const rest = this.#held;
    this.#held = "";
    return this.stopped ? "" : rest;
  }
}

/** Tells when a JSON text is complete, so that a constrained answer ends there and not in white space. */
export class JsonEnd {
  #depth = 0;
  #inString = false;
  #escaped = false;

  /**
   * How many characters of `text` belong to the value when it ends within, else -1.
   * Bare numbers and words never end.
   */
  push(text) {
    for (let i = 0; i < text.length; i++) {
      const c = text[i];
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (c === "\\") this.#escaped = true;
        else if (c === '"') this.#inString = false;
        else continue;
        if (this.#inString || this.#depth > 0) continue;
        return i + 1;
      }
      if (c === '"') this.#inString = true;
      else if (c === "{" || c === "[") this.#depth++;
      else if ((c === "}" || c === "]") && --this.#depth === 0) return i + 1;
    }
    return -1;
  }
}
