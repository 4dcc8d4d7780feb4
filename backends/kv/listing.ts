/** Lists entries, also around values that this runtime cannot read. */

import { messageOf } from "../../core/errors.ts";
import type { KvDatabase, KvEntry, KvSelectorKey } from "./api.ts";

/** The keys that are listed: `prefix`, and behind it one text from `from` on. */
export interface Listing {
  readonly prefix: KvSelectorKey;
  readonly from: string;
}

/** An entry whose value this runtime cannot read, of which only the text of its key is known. */
export interface UnreadableEntry {
  readonly unreadable: string;
}

/** How many entries a database reads at once. */
const BATCH = 100;
/** How many code points there are that are no halves of others, and where the halves begin. */
const CODE_POINTS = 0x110000 - 0x800;
const SURROGATES = 0xd800;

/**
 * Lists, by key. A value that another runtime has serialised in its own way makes the database's listing fail before
 * it shows anything of the batch that the value is in, and does not say where it is. So that batch is listed one by one,
 * and the key that the failure hides is found by asking whether parts of what follows fail, too.
 */
export async function* listAll(
  kv: KvDatabase,
  { prefix, from }: Listing,
): AsyncGenerator<KvEntry | UnreadableEntry> {
  let start = from;
  /** Where a listing has failed, and how many entries are listed one by one from there. */
  let failedAt: string | undefined;
  let singly = 0;
  for (;;) {
    try {
      const options = { batchSize: singly > 0 ? 1 : undefined };
      for await (const entry of kv.list({ prefix, start: [...prefix, start] }, options)) {
        yield entry;
        const part = entry.key[prefix.length];
        if (typeof part === "string") start = after(part);
        if (singly > 0 && --singly === 0) break;
      }
      if (options.batchSize === undefined || singly > 0) return;
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      singly = BATCH;
      // What failed may be kept below a text that was listed: from behind it there may be more that can be read.
      if (failedAt !== start) {
        failedAt = start;
        continue;
      }
      const unreadable = await hiddenKey(kv, { prefix, from: start });
      // It is not among the texts.
      if (unreadable === undefined) return;
      yield { unreadable };
      start = after(unreadable);
    }
  }
}

/** Whether a failure is that of a value which was serialised in another way. */
export function isUnreadable(error: unknown): boolean {
  return /deserializ/i.test(messageOf(error));
}

/** The first text whose value cannot be read, where the first of all that follow cannot: it is spelt out. */
async function hiddenKey(kv: KvDatabase, { prefix, from }: Listing): Promise<string | undefined> {
  const isBefore = async (end: string | number) => {
    // The database refuses a range that ends before it begins.
    if (typeof end === "string" && !isBehind(end, from)) return false;
    const range = { start: [...prefix, from], end: [...prefix, end] };
    try {
      for await (const _ of kv.list(range, { batchSize: 1 })) return true;
      return false;
    } catch (error) {
      if (isUnreadable(error)) return true;
      throw error;
    }
  };
  // The least of the numbers is behind all texts.
  if (!await isBefore(-Infinity)) return undefined;
  for (let key = "";;) {
    if (await isBefore(after(key))) return key;
    let [least, most] = [0, CODE_POINTS - 1];
    while (least < most) {
      const middle = (least + most) >> 1;
      if (await isBefore(key + pointAt(middle + 1))) most = middle;
      else least = middle + 1;
    }
    key += pointAt(least);
  }
}

/** The first text behind this one, and behind all that is kept below it. */
function after(text: string): string {
  return `${text}\0`;
}

/** Whether one text is behind another in the order of the database, that of code points. */
function isBehind(one: string, other: string): boolean {
  const [points, others] = [[...one], [...other]].map((text) => text.map((point) => point.codePointAt(0)!));
  for (const [i, point] of points.entries()) {
    if (point !== others[i]) return i >= others.length || point > others[i];
  }
  return false;
}

function pointAt(index: number): string {
  return String.fromCodePoint(index < SURROGATES ? index : index + 0x800);
}
