// The reference that JSR and editors show: what every exported symbol says of itself, in the form that the standard
// library's have, and in plain words.
import { assert, assertEquals } from "@std/assert";
import { forbiddenIn } from "./support/words.ts";

const root = new URL("..", import.meta.url);

interface Tag {
  readonly kind: string;
  readonly name?: string;
  readonly doc?: string;
}

interface JsDoc {
  readonly doc?: string;
  readonly tags?: readonly Tag[];
}

interface Parameter {
  readonly kind: string;
  readonly name?: string;
  readonly left?: { readonly name?: string };
}

interface Signature {
  readonly params: readonly Parameter[];
  readonly returnType?: { readonly repr: string; readonly value?: unknown };
  readonly typeParams?: readonly { readonly name: string }[];
}

/** One thing that has documentation: a symbol, or a member of one. */
interface Documented {
  readonly name: string;
  readonly jsDoc: JsDoc;
  /** How it is called, if it is a function or a method. */
  readonly signature?: Signature;
}

interface Member {
  readonly name: string;
  readonly kind?: string;
  readonly accessibility?: string;
  readonly jsDoc?: JsDoc;
  readonly functionDef?: Signature;
  readonly params?: readonly Parameter[];
  readonly returnType?: Signature["returnType"];
  readonly typeParams?: Signature["typeParams"];
}

interface Declaration {
  readonly kind: string;
  readonly location: { readonly filename: string; readonly line: number };
  readonly jsDoc?: JsDoc;
  readonly def: Signature & {
    readonly methods?: readonly Member[];
    readonly properties?: readonly Member[];
    readonly constructors?: readonly Member[];
  };
}

/** Interfaces that others call, so that their methods are documented as functions are; the rest describe clients. */
const CALLED = ["LockForms", "LockManager", "Instrumentation", "RedisBackend", "PostgresBackend"];

async function documentationOf(...paths: string[]): Promise<{ modules: string[]; all: Documented[] }> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["doc", "--json", ...paths], cwd: root })
    .output();
  const { nodes } = JSON.parse(new TextDecoder().decode(stdout)) as {
    nodes: Record<
      string,
      { module_doc?: JsDoc; symbols: { name: string; declarations: Declaration[] }[] }
    >;
  };
  const modules: string[] = [];
  const all = new Map<string, Documented>();
  for (const { module_doc, symbols } of Object.values(nodes)) {
    if (module_doc?.doc !== undefined) modules.push(module_doc.doc);
    for (const { name, declarations } of symbols) {
      for (const { kind, location, jsDoc, def } of declarations) {
        // The implementation behind overloads says nothing itself.
        if (jsDoc === undefined) continue;
        const at = `${location.filename}:${location.line}`;
        all.set(at, { name, jsDoc, ...(kind === "function" && { signature: def }) });
        const members = [...def.properties ?? [], ...def.methods ?? [], ...def.constructors ?? []];
        for (const [i, member] of members.entries()) {
          if (member.jsDoc === undefined || member.accessibility === "private") continue;
          const isCalled = member.functionDef !== undefined && member.kind === "method" ||
            CALLED.includes(name) && member.params !== undefined;
          all.set(`${at}.${i}`, {
            name: `${name}.${member.name}`,
            jsDoc: member.jsDoc,
            ...(isCalled && { signature: member.functionDef ?? member as Signature }),
          });
        }
      }
    }
  }
  return { modules, all: [...all.values()] };
}

/** What the documentation of something lacks, or says in the wrong place. */
function* faultsOf({ name, jsDoc: { doc = "", tags = [] }, signature }: Documented): Generator<string> {
  if (/\bDefault(s to)?:? /.test(doc)) yield `${name}: a default in prose, not as @default {value}`;
  if (/^(Throws|Rejects) /m.test(doc)) yield `${name}: an error in prose, not as @throws`;
  const unknown = tags.filter(({ kind }) => kind === "unsupported");
  if (unknown.length > 0) yield `${name}: a tag that is none`;
  const [example] = tags.filter(({ kind }) => kind === "example");
  if (example?.doc?.includes("@std/assert")) yield `${name}: the first example is a test, not an app's code`;
  if (signature === undefined) return;
  for (const parameter of signature.params) {
    const called = parameter.name ?? parameter.left?.name;
    const isSaid = tags.some(({ kind, name }) => kind === "param" && name === called);
    if (!isSaid) yield `${name}: no @param ${called}`;
  }
  for (const { name: called } of signature.typeParams ?? []) {
    const isSaid = tags.some(({ kind, name }) => kind === "template" && name === called);
    if (!isSaid) yield `${name}: no @typeParam ${called}`;
  }
  const { returnType } = signature;
  const returns = JSON.stringify(returnType ?? null);
  const isNothing = returnType?.repr === "void" || /"repr":"Promise".*"repr":"void"/.test(returns);
  if (!isNothing && !tags.some(({ kind }) => kind === "return")) yield `${name}: no @returns`;
}

const { exports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
const { modules, all } = await documentationOf(...Object.values<string>(exports));

Deno.test("reference: every exported function says what it takes, returns and throws", () => {
  assert(all.length > 300, "there is documentation");
  assertEquals(all.flatMap((documented) => [...faultsOf(documented)]), []);
});

Deno.test("reference: what is left out is found", () => {
  const params = [{ kind: "identifier", name: "lock" }];
  const signature = { params, returnType: { repr: "boolean" }, typeParams: [{ name: "Result" }] };
  const jsDoc = {
    doc: "Frees it. Default: `true`.\nThrows TypeError if it is none.",
    tags: [{ kind: "example", doc: 'import "@std/assert"' }, { kind: "unsupported" }],
  };
  assertEquals([...faultsOf({ name: "free", jsDoc, signature })], [
    "free: a default in prose, not as @default {value}",
    "free: an error in prose, not as @throws",
    "free: a tag that is none",
    "free: the first example is a test, not an app's code",
    "free: no @param lock",
    "free: no @typeParam Result",
    "free: no @returns",
  ]);
});

Deno.test("reference: it is written in plain words", () => {
  const found = all.flatMap(({ name, jsDoc: { doc = "", tags = [] } }) =>
    [doc, ...tags.map(({ doc = "" }) => doc)].flatMap(forbiddenIn).map((words) => `${name}: ${words}`)
  );
  assertEquals([...modules.flatMap(forbiddenIn), ...found], []);
});
