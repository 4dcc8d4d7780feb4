import { assert, assertEquals } from "@std/assert";
import ts from "typescript";
import { mutationsOf } from "./operators.ts";

/** What becomes of a piece of code: operator, before, after. */
function changes(source: string): string[] {
  return mutationsOf(source).map(({ operator, from, to }) => `${operator}: ${from} → ${to}`);
}

/** What a careless change of text would break. */
const ODD = `
const a = () => b ? { c: 1, d } : [e, f,];
const g = h ?? (i || j), k = l ? m = 1 : n => 2;
if (!o) p(); else if (q < -1) throw r
else s()
for (let i = 0, t = u; i<t; ++i) v: for (;;) { if (w) continue v; break; }
class X { #y = 0; static z = +1; async *a() { yield await this.#y && 2 ** -3 } get 7() { return 0 ** 8; } }
const { b = 1, c: [d = 2, , e], ...f } = g?.filter(h)?.length, i = j+-k - -l-+m;
const n = o!.some(<p,>(q: p): q is p => q!)!.length > 0, r = -++s;
`;

/** Why a text is no TypeScript. */
function errorsIn(text: string): unknown[] {
  const file = ts.createSourceFile("text.ts", text, ts.ScriptTarget.Latest);
  return (file as unknown as { parseDiagnostics: ts.Diagnostic[] }).parseDiagnostics
    .map(({ messageText }) => messageText);
}

Deno.test("operators: a tiny source is broken in just these ways", () => {
  const source = `import { x } from "./x.ts";
/** Whether 1 > 0 && true. */
export function f<T extends 1>(a: number, b?: { c: 1 | true }): string | undefined {
  if (a < 1 || b) return a === 2 ? "a > 1" : undefined;
  x([a, ...[]].filter(Boolean), { a, b: undefined });
}
`;
  assertEquals(
    mutationsOf(source).map(({ line, within, from, to }) => `${line} ${within}: ${from} → ${to}`),
    [
      "4 f: a < 1 || b → true",
      "4 f: a < 1 || b → false",
      "4 f: a < 1 || b → ((a < 1) && (b))",
      "4 f: a < 1 || b → (a < 1)",
      "4 f: a < 1 || b → (b)",
      "4 f: a < 1 → a <= 1",
      "4 f: a < 1 → a >= 1",
      "4 f: a < 1 → a < 2",
      "4 f: a < 1 → a < 0",
      '4 f: a === 2 ? "a > 1" : undefined → ("a > 1")',
      '4 f: a === 2 ? "a > 1" : undefined → (undefined)',
      "4 f: a === 2 → a === 3",
      "4 f: a === 2 → a === 1",
      "5 f: x([a, ...[]].filter(Boolean), { a, b: undefined }); → ;",
      "5 f: [a, ...[]].filter(Boolean) → ([a, ...[]])",
      "5 f: [a, ...[]] → [...[]]",
      "5 f: [a, ...[]] → [a]",
      "5 f: { a, b: undefined } → { b: undefined }",
    ],
  );
});

Deno.test("operators: each of them", () => {
  const cases: [source: string, expected: string[]][] = [
    ["a > b;", ["statement left out: a > b; → ;", "sign: a > b → a >= b", "sign: a > b → a <= b"]],
    ["f = !a", ["statement left out: f = !a → ;", "negation left out: !a → (a)"]],
    ["const f = -a + b", ["sign: -a + b → -a - b", "minus left out: -a → (a)"]],
    ["const f = a ?? b", ["default left out: a ?? b → (a)", "default always: a ?? b → (b)"]],
    ["const f = Math.min(a)", ["the other function: Math.min(a) → Math.max(a)"]],
    ["const f = a.min(b)", []],
    ["const f = a.toString()", []],
    ["const f = a.some(b)", ["the other function: a.some(b) → a.every(b)"]],
    ["const f = true", ["boolean: f = true → f = false"]],
    ["const f = 0", ["off by one: f = 0 → f = 1", "off by one: f = 0 → f = (-1)"]],
    ["const f = 1_000", ["off by one: f = 1_000 → f = 1001", "off by one: f = 1_000 → f = 999"]],
    ["const f = a.length !== 0", [
      "sign: a.length !== 0 → a.length === 0",
      "off by one: a.length !== 0 → a.length !== 1",
    ]],
    ["const f = 'a' + b + `c`", []],
    ["const f = `${a - b} > 0`", ["sign: a - b → a + b"]],
    ["const f = { 1: a }", ["property left out: { 1: a } → { }"]],
    ["for (; a !== b;) a++", [
      "never: a !== b → false",
      "sign: a !== b → a === b",
      "statement left out: a++ → ;",
      "sign: a++ → a--",
    ]],
    ["while (a) { if (b) break; }", [
      "never: a → false",
      "always: b → true",
      "never: b → false",
      "statement left out: break; → ;",
    ]],
    ["do { a(); } while (b)", ["never: b → false", "statement left out: a(); → ;"]],
    ["throw a", ["statement left out: throw a → ;"]],
    ["const f = (a || b) && c", [
      "and, or: (a || b) && c → (((a || b)) || (c))",
      "condition left out: (a || b) && c → ((a || b))",
      "condition left out: (a || b) && c → (c)",
      "and, or: a || b → ((a) && (b))",
      "condition left out: a || b → (a)",
      "condition left out: a || b → (b)",
    ]],
  ];
  for (const [source, expected] of cases) assertEquals(changes(source), expected, source);
});

Deno.test("operators: types, comments, strings and imports stay as they are", () => {
  assertEquals(
    changes(`
      import { a } from "./a > b.ts";
      export { b } from "./b.ts";
      // a > b
      interface A { readonly b: 1; c?: true }
      type B = 1 | true | A["b"];
      declare const c: 1;
      const d = "a && b" as const as "a && b" & (1 extends 2 ? 3 : 4);
      function e<T extends 1 = 1>(f: T): f is 1 {}
      enum F {}
    `),
    [],
  );
});

Deno.test("operators: what they yield is another text, once, and parses", async () => {
  assert(errorsIn("a +").length > 0);
  assertEquals(errorsIn(ODD), []);
  const sources: [name: string, source: string][] = [["what is odd", ODD]];
  const folder = new URL("../../core/record/", import.meta.url);
  for await (const { name } of Deno.readDir(folder)) {
    sources.push([name, await Deno.readTextFile(new URL(name, folder))]);
  }
  for (const [name, source] of sources) {
    const mutations = mutationsOf(source);
    assertEquals(new Set(mutations.map(({ text }) => text)).size, mutations.length, name);
    for (const { from, to, text } of mutations) {
      assert(from !== to && text !== source, `${name}: ${from} → ${to}`);
      assertEquals(errorsIn(text), [], `${name}: ${from} → ${to}`);
    }
  }
});
