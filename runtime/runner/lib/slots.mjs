// Hands out the context's sequences: as many requests as there are sequences run together, a bounded number
// waits in order of arrival, the rest is refused.
import { ApiError, Cancelled } from "./errors.mjs";

export class Slots {
  #free;
  #waiting = [];
  #limit;

  /** @param sequences the sequences to hand out. @param limit how many requests may wait. */
  constructor(sequences, limit) {
    this.#free = [...sequences];
    this.#limit = limit;
  }

  get waiting() {
    return this.#waiting.length;
  }
  get free() {
    return this.#free.length;
  }

  /** Throws 503 unless n requests could at least wait. */
  admit(n) {
    if (n > this.#free.length + this.#limit - this.#waiting.length) {
      throw new ApiError(503, "too many requests are waiting for this model", {
        code: "overloaded",
        headers: { "retry-after": "1" },
      });
    }
  }

  /**
   * A sequence: of the free ones the one that `score` likes best.
   * Rejects with Cancelled when the signal fires first.
   */
  take(signal, score = () => 0) {
    if (signal.aborted) return Promise.reject(new Cancelled());
    if (this.#free.length > 0) {
      let best = 0,
        most = -Infinity;
      this.#free.forEach((s, i) => {
        const v = score(s);
        if (v > most) [best, most] = [i, v];
      });
      return Promise.resolve(this.#free.splice(best, 1)[0]);
    }
    this.admit(1);
    return new Promise((resolve, reject) => {
      const entry = { resolve };
      const gone = () => {
        const i = this.#waiting.indexOf(entry);
        if (i >= 0) {
          this.#waiting.splice(i, 1);
          reject(new Cancelled());
        }
      };
      signal.addEventListener("abort", gone, { once: true });
      entry.resolve = s => {
        signal.removeEventListener("abort", gone);
        resolve(s);
      };
      this.#waiting.push(entry);
    });
  }

  give(sequence) {
    const next = this.#waiting.shift();
    if (next) next.resolve(sequence);
    else this.#free.push(sequence);
  }
}
