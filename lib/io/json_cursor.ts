/**
 * The part of JSON that headers of weights are made of, read without building values that are not wanted: `JSON.parse`
 * keeps the last of two equal names and says nothing, and needs up to twenty times the memory of the text.
 *
 * @module
 */
import { oneLine } from "novae/tensor/mod.ts";

const QUOTE = 0x22, BACKSLASH = 0x5c, ZERO = 0x30, NINE = 0x39;
const WHITE_SPACE: ReadonlySet<number> = new Set([0x20, 0x0a, 0x0d, 0x09]);
const RAW_BYTES = 40;

/** A place in a JSON text. */
export class JsonCursor {
  #at = 0;
  readonly #bytes: Uint8Array;
  readonly #fail: () => Error;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  /**
   * The beginning of a text.
   *
   * @param fail makes the error for what is no JSON.
   */
  constructor(bytes: Uint8Array, fail: () => Error) {
    this.#bytes = bytes;
    this.#fail = fail;
  }

  /** Whether the next character is this one; white space before it is left out. */
  isNext(character: string): boolean {
    const bytes = this.#bytes;
    while (bytes[this.#at] <= 0x20 && WHITE_SPACE.has(bytes[this.#at])) this.#at++;
    return bytes[this.#at] === character.charCodeAt(0);
  }

  /** Goes on if the next character is this one. */
  take(character: string): boolean {
    const is = this.isNext(character);
    if (is) this.#at++;
    return is;
  }

  /** Goes on after this character, which must be next. */
  expect(character: string): void {
    if (!this.take(character)) throw this.#fail();
  }

  /** The names of an object, one after another; whoever takes a name reads its value before taking the next. */
  *members(): Generator<string> {
    this.expect("{");
    if (this.take("}")) return;
    do {
      const name = this.text();
      if (name === null) throw this.#fail();
      this.expect(":");
      yield name;
    } while (this.take(","));
    this.expect("}");
  }

  /** A text; null, and nothing is read, if something else is next. */
  text(): string | null {
    if (!this.isNext('"')) return null;
    const bytes = this.#bytes, start = this.#at++;
    let plain = true;
    for (; bytes[this.#at] !== QUOTE; this.#at++) {
      if (this.#at >= bytes.length || bytes[this.#at] < 0x20) throw this.#fail();
      if (bytes[this.#at] !== BACKSLASH) continue;
      plain = false;
      this.#at++;
    }
    this.#at++;
    try {
      if (plain) return this.#decoder.decode(bytes.subarray(start + 1, this.#at - 1));
      return JSON.parse(this.#decoder.decode(bytes.subarray(start, this.#at)));
    } catch {
      throw this.#fail();
    }
  }

  /** A list of whole numbers of 0 to 2⁵³ − 1; null if something else is next, which is then left where it is. */
  sizes(): number[] | null {
    const start = this.#at, sizes: number[] = [];
    if (this.take("[")) {
      if (this.take("]")) return sizes;
      for (let size = this.#size(); size !== null; size = this.#size()) {
        sizes.push(size);
        if (this.take("]")) return sizes;
        if (!this.take(",")) break;
      }
    }
    this.#at = start;
    return null;
  }

  #size(): number | null {
    this.isNext("0"); // leaves white space out
    const bytes = this.#bytes, start = this.#at;
    let size = 0;
    for (; bytes[this.#at] >= ZERO && bytes[this.#at] <= NINE; this.#at++) {
      size = size * 10 + bytes[this.#at] - ZERO;
    }
    const digits = this.#at - start, sound = digits === 1 || (digits > 1 && bytes[start] !== ZERO);
    return sound && Number.isSafeInteger(size) ? size : null;
  }

  /** Expects nothing but white space. */
  end(): void {
    this.isNext(" ");
    if (this.#at < this.#bytes.length) throw this.#fail();
  }

  /** What comes next, for messages: up to the end of a list or object. */
  raw(): string {
    this.isNext(" ");
    const text = new TextDecoder().decode(this.#bytes.subarray(this.#at, this.#at + RAW_BYTES));
    return oneLine(/^[^\]},]*$|^\[[^\]]*\]|^[^\],}]*/.exec(text)?.[0] ?? text);
  }
}
