/** The words that texts for users do not have, because people stop at them, and what to write instead. */

const FORBIDDEN: readonly (readonly [RegExp, string])[] = [
  [/\b(he|him|his|himself)\b/gi, '"it" for a process'],
  [/\b(whoever|whomever)\b/gi, '"a process that", "the caller"'],
  [/\b(those|ones?) who\b/gi, '"a process that", "callers that"'],
  [/\b(nobody|somebody|everybody|anybody)\b/gi, '"no process", "another process", "every caller"'],
  [/\b(is|are|was|were|be|been|being) told\b/gi, '"is notified", "is reported"'],
  [/\bbelieves? to\b/gi, '"believes that it"'],
  [/\bof (its|your|their|our|one's) own\b/gi, '"its own", "your own", "separate"'],
  [/\b(beside|beneath|upon)\b/gi, '"next to", "under", "and then"'],
  [/\b(seldom|lately|anew|in earnest|of late)\b/gi, '"rarely", "recently", "again", "in production"'],
  [/\b(robs?|robbed|robbers?|thie(f|ves)|thefts?)\b/gi, '"evicts", "evicted", "eviction"'],
  [/\b(in line|lined up|stands? in (the )?line)\b/gi, '"in the queue"'],
  [/\bthe (dead|robbed)\b/gi, '"a crashed process", "an evicted holder"'],
  [/\bhonest\b/gi, '"legitimate", "cooperating"'],
  [/\bstore is out\b/gi, '"is unavailable"'],
];

/** The forbidden words in a text, each in a few words of it, with what to write. */
export function forbiddenIn(text: string): string[] {
  return FORBIDDEN.flatMap(([words, instead]) =>
    [...text.matchAll(words)].map(({ index, 0: word }) => {
      const around = text.slice(Math.max(0, index - 30), index + word.length + 30).replace(/\s+/g, " ");
      return `…${around}…: not "${word}" but ${instead}`;
    })
  );
}
