// Kinds of faults that can be seen in the published sources themselves. Each scan finds those that are planted.
import { assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("..", import.meta.url));
const PLANTED = `${root}planted.ts`;

/** The published sources. */
function published(): string[] {
  const found: string[] = [];
  const add = (path: string) => {
    if (path.endsWith(".ts")) found.push(path);
    else if (Deno.statSync(path).isDirectory) {
      for (const { name } of Deno.readDirSync(path)) add(`${path}/${name}`);
    }
  };
  for (const path of JSON.parse(Deno.readTextFileSync(`${root}deno.json`)).publish.include) {
    add(`${root}${path}`);
  }
  return found;
}

/** The sources with their types; a planted one stands next to them. */
function programOf(files: readonly string[], planted?: string): ts.Program {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ESNext,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ["lib.esnext.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts", "lib.dom.asynciterable.d.ts"],
    allowImportingTsExtensions: true,
    noEmit: true,
    strict: true,
    types: [],
  };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (name) => name === PLANTED ? planted : readFile(name);
  host.fileExists = (name) => name === PLANTED ? planted !== undefined : fileExists(name);
  return ts.createProgram(planted === undefined ? [...files] : [...files, PLANTED], options, host);
}

/** Every node for which `isFault` holds, by its file and first line. */
function scan(
  program: ts.Program,
  files: readonly string[],
  isFault: (node: ts.Node, checker: ts.TypeChecker) => boolean,
): string[] {
  const checker = program.getTypeChecker();
  const found: string[] = [];
  for (const file of files) {
    const source = program.getSourceFile(file)!;
    const visit = (node: ts.Node) => {
      if (isFault(node, checker)) {
        found.push(`${file.slice(root.length)}: ${node.getText(source).replace(/\s+/g, " ").slice(0, 90)}`);
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

/** What calls a function later, when no caller is left that could catch what its promise says. */
const LATER = new Set([
  ...[
    "setTimeout",
    "setInterval",
    "setImmediate",
    "queueMicrotask",
    "nextTick",
    "after",
    "soon",
    "set",
    "onAbort",
  ],
  ...["addEventListener", "on", "once", "addListener", "subscribe", "forEach"],
]);

/** The name by which a function is called. */
function nameOf(callee: ts.Expression): string | undefined {
  if (ts.isIdentifier(callee)) return callee.text;
  return ts.isPropertyAccessExpression(callee) ? callee.name.text : undefined;
}

function isPromise(type: ts.Type, checker: ts.TypeChecker): boolean {
  if (type.isUnion()) return type.types.some((one) => isPromise(one, checker));
  return type.getProperty("then") !== undefined && type.getProperty("catch") !== undefined;
}

/** Whether a promise has a handler for its rejection, or is of a function that catches everything. */
function isCaught(node: ts.Expression, checker: ts.TypeChecker): boolean {
  if (!ts.isCallExpression(node)) return false;
  const { expression: callee, arguments: given } = node;
  if (ts.isPropertyAccessExpression(callee)) {
    const how = callee.name.text;
    if (how === "catch") return given.length > 0;
    if (how === "then" && given.length > 1) return true;
    if (how === "then") {
      const [next] = given;
      return isCaught(callee.expression, checker) && ts.isArrowFunction(next) && !ts.isBlock(next.body) &&
        isCaught(next.body, checker);
    }
    if (how === "finally") return isCaught(callee.expression, checker);
  }
  const declaration = checker.getResolvedSignature(node)?.declaration;
  return declaration !== undefined && (isExempt(declaration) || catchesAll(declaration, checker));
}

/** Functions whose promise never rejects although it does not show at a glance: where, and why. */
const EXEMPT: Record<string, string> = {
  "backends/redis/subscriptions.ts ask": "a try with a catch, after noting that it asks",
  "backends/redis/subscriptions.ts #test": "a try with a catch, after noting that it tests",
  "backends/redis/subscriptions.ts #subscribe":
    "each turn of its loop has a catch, which publishes on the channels",
  "backends/watched.ts ask": "both subscriptions have a try with a catch, see above and below",
  "backends/postgres/subscriptions.ts ask": "a try with a catch, after noting that it asks",
  "backends/postgres/subscriptions.ts #test": "a try with a catch, after noting that it tests",
  "backends/postgres/subscriptions.ts #connect":
    "each turn of its loop has a catch, which publishes on the channels",
  "backends/postgres/subscriptions.ts #release": "what closes is called with a catch",
  "backends/postgres/subscriptions.ts #lose": "it waits for #release alone",
  "backends/redis/adapters.ts close": "what both clients make is made with a catch",
};

/** Of which functions it was asked. */
const exempted = new Set<string>();

function isExempt(declaration: ts.Node): boolean {
  const { name } = declaration as { name?: ts.Node };
  const file = declaration.getSourceFile().fileName.slice(root.length);
  const exemption = `${file} ${name?.getText()}`;
  exempted.add(exemption);
  return EXEMPT[exemption] !== undefined;
}

/** Whether all that an async function does stands in a `try` with a `catch` that does not throw. */
function catchesAll(fn: ts.Node, checker: ts.TypeChecker): boolean {
  if (!ts.isFunctionLike(fn) || !("body" in fn) || fn.body === undefined) return false;
  const body = fn.body as ts.ConciseBody;
  if (!ts.isBlock(body)) return isCaught(body, checker);
  return body.statements.every((statement) =>
    ts.isTryStatement(statement)
      ? statement.catchClause !== undefined && !canThrow(statement.catchClause.block)
      : ts.isReturnStatement(statement) && statement.expression !== undefined
      ? isCaught(awaited(statement.expression), checker)
      : !canThrow(statement)
  );
}

function awaited(node: ts.Expression): ts.Expression {
  return ts.isAwaitExpression(node) ? node.expression : node;
}

/** Whether a statement waits for, calls, or throws anything. */
function canThrow(node: ts.Node): boolean {
  if (ts.isThrowStatement(node) || ts.isAwaitExpression(node) || ts.isNewExpression(node)) return true;
  return ts.isCallExpression(node) || (ts.forEachChild(node, canThrow) ?? false);
}

/** An expression whose promise, if it is one, goes nowhere. */
function isLost(node: ts.Expression, checker: ts.TypeChecker): boolean {
  if (ts.isVoidExpression(node) || ts.isParenthesizedExpression(node)) {
    return isLost(node.expression, checker);
  }
  if (ts.isConditionalExpression(node)) {
    return isLost(node.whenTrue, checker) || isLost(node.whenFalse, checker);
  }
  if (ts.isBinaryExpression(node)) {
    const isChoice = [
      ts.SyntaxKind.AmpersandAmpersandToken,
      ts.SyntaxKind.BarBarToken,
      ts.SyntaxKind.QuestionQuestionToken,
    ].includes(node.operatorToken.kind);
    return isChoice && isLost(node.right, checker);
  }
  if (ts.isAwaitExpression(node)) return false;
  return isPromise(checker.getTypeAtLocation(node), checker) && !isCaught(node, checker);
}

/** A function for later whose promise no caller will have. */
function isLostLater(fn: ts.Expression, checker: ts.TypeChecker): boolean {
  if (ts.isArrowFunction(fn) && !ts.isBlock(fn.body) && isLost(fn.body, checker)) return true;
  return checker.getTypeAtLocation(fn).getCallSignatures().some((signature) => {
    const { declaration } = signature;
    return isPromise(signature.getReturnType(), checker) &&
      (declaration === undefined || !catchesAll(declaration, checker));
  });
}

/** A promise without a catch: one that is called and left alone, or that a timer or a handler makes. */
function isUncaught(node: ts.Node, checker: ts.TypeChecker): boolean {
  if (ts.isExpressionStatement(node)) return isLost(node.expression, checker);
  if (ts.isCallExpression(node) && LATER.has(nameOf(node.expression) ?? "")) {
    return node.arguments.some((argument) => isLostLater(argument, checker));
  }
  return ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.EqualsToken &&
    /^on[a-z]/.test(nameOf(node.left) ?? "") && isLostLater(node.right, checker);
}

/** All of a list of any length, as the arguments of a call: the stack that they stand on has an end. */
function isUnboundedSpread(node: ts.Node, checker: ts.TypeChecker): boolean {
  if (!ts.isSpreadElement(node) || !(ts.isCallExpression(node.parent) || ts.isNewExpression(node.parent))) {
    return false;
  }
  // A tuple has as many as it says; rest parameters that are handed on came as arguments.
  const type = checker.getTypeAtLocation(node.expression);
  return !checker.isTupleType(type) && !isHandedOn(node.expression, checker);
}

function isHandedOn(node: ts.Expression, checker: ts.TypeChecker): boolean {
  const declaration = checker.getSymbolAtLocation(node)?.valueDeclaration;
  return declaration !== undefined && ts.isParameter(declaration) && declaration.dotDotDotToken !== undefined;
}

/** Spreads of lists that are short, by what says so. */
const SHORT: Record<string, string> = {
  "backends/redis/store.ts: ...command.map(String)": "MAX_WORDS limits a command",
  "backends/redis/adapters.ts: ...words": "MAX_WORDS limits a script",
  "backends/redis/adapters.ts: ...part": "AT_ONCE limits a part",
};

const files = published();

Deno.test("sources: no timer, handler or call leaves a promise uncaught", () => {
  const planted = `
    declare const emitter: { on(name: string, fn: () => void): void; onmessage: () => void };
    async function fails(): Promise<void> { throw new Error("unheard"); }
    async function quiet(): Promise<void> { try { await fails(); } catch { /* heard */ } }
    class Observer {
      #tick = async () => { await fails(); };
      start() {
        setTimeout(this.#tick, 5);
        setInterval(async () => { await fails(); }, 5);
        emitter.on("x", () => void fails());
        emitter.onmessage = async () => await fails();
        fails();
        void fails();
        void fails().then(() => {});
        Promise.all([fails()]).finally(() => {});
        fails() ?? quiet();
        [1].forEach(async () => await fails());
        // These are caught.
        setTimeout(quiet, 5);
        setTimeout(() => void fails().catch(() => {}), 5);
        fails().then(() => {}, () => {});
        void fails().catch(() => {}).finally(() => {});
        void quiet();
      }
    }
    new Observer().start();`;
  assertEquals(scan(programOf([], planted), [PLANTED], isUncaught).length, 9);
  exempted.clear();
  assertEquals(scan(programOf(files), files, isUncaught), []);
  assertEquals(Object.keys(EXEMPT).filter((name) => !exempted.has(name)), []);
});

const TIME =
  /^(performance\.(now|timeOrigin)|(Date\.now|setTimeout|setInterval|setImmediate)\(|new Date\(\))/;

Deno.test("sources: locks read the time in one place, so that a test which replaces it replaces all or nothing", () => {
  const isReading = (node: ts.Node) =>
    (ts.isCallExpression(node) || ts.isNewExpression(node) || ts.isPropertyAccessExpression(node)) &&
    TIME.test(node.getText());
  const planted =
    "performance.timeOrigin; Date.now(); new Date(); new Date(5); setTimeout(() => {}, 5); clock.now();";
  assertEquals(scan(programOf([], planted), [PLANTED], isReading).length, 4);
  const files = published().filter((path) =>
    /\/(core|backends|web_locks)\//.test(path.slice(root.length - 1))
  );
  const found = scan(programOf(files), files, isReading);
  assertEquals(found.filter((reading) => !reading.startsWith("core/clock.ts: ")), []);
});

Deno.test("sources: no list of any length is spread into a call", () => {
  const planted = `
    declare const lines: string[];
    const pair: [number, number] = [1, 2];
    const handOn = (...given: string[]) => console.log(...given);
    console.log(...lines, Math.max(...lines.map(Number)));
    lines.push(...lines);
    new Array(...lines);
    // These are short, or no arguments.
    console.log([...lines], Math.max(...pair), handOn);`;
  assertEquals(scan(programOf([], planted), [PLANTED], isUnboundedSpread).length, 4);
  const found = scan(programOf(files), files, isUnboundedSpread);
  // The cases of the suite spread what they have made.
  assertEquals(found.filter((spread) => SHORT[spread] === undefined && !spread.startsWith("testing/")), []);
  assertEquals(Object.keys(SHORT).filter((spread) => !found.includes(spread)), []);
});

/** Something is written where people read it, past the one place that makes it printable. */
function isWrite(node: ts.Node): boolean {
  if (!ts.isPropertyAccessExpression(node)) return false;
  const whole = node.getText().replace(/\s/g, "");
  return /^(process|Deno)\.(stdout|stderr)\.write(Sync)?$/.test(whole) || /^console\.\w+$/.test(whole);
}

Deno.test("sources: what people read on a terminal is written in one place", () => {
  const planted = `console.log(1); process.stdout.write("x"); Deno.stderr.writeSync(x); stream.write("y");`;
  assertEquals(scan(programOf([], planted), [PLANTED], isWrite).length, 3);
  const found = scan(programOf(files), files, isWrite);
  assertEquals(found.filter((write) => !write.startsWith("cli/terminal.ts: ")), []);
});

/** What the core may use of the platform: async contexts, channels, clocks and timers, which all runtimes have. */
const PLATFORM = ["node:async_hooks", "node:diagnostics_channel", "node:perf_hooks", "node:timers"];

/** A runtime's own global, or a module of the platform that the core does without. */
function isOfARuntime(node: ts.Node): boolean {
  if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
    const { text } = node.moduleSpecifier;
    return !text.startsWith(".") && !PLATFORM.includes(text);
  }
  return ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression) &&
    ["process", "Deno", "Bun", "window", "self"].includes(node.expression.text);
}

Deno.test("sources: the core names no runtime and no store", () => {
  const planted = `
    import process from "node:process";
    import { timers } from "node:timers";
    process.kill(1, "SIGTERM");
    Deno.openKv();
    ({ process: 1 });`;
  assertEquals(scan(programOf([], planted), [PLANTED], isOfARuntime).length, 3);
  const core = files.filter((file) => file.startsWith(`${root}core/`));
  assertEquals(scan(programOf(core), core, isOfARuntime), []);
});

/** Rejections that are dropped for a reason, which stands next to each of them. */
const DROPPED: Record<string, string> = {
  "admin/observer.ts: late.catch(() => {})": "a caller that still waits for it gets it",
  "admin/observer.ts: listing.return?.().catch(() => {})":
    "the listing is given up because the store is silent",
  "cli/run.ts: this.#say().catch(() => {})": "a line about waiting, which is said again",
  "http/answers.ts: answer.body.cancel().catch(() => {})": "a body that is not read any more",
  "testing/failure_cases.ts: waiting.then(() => granted = true).catch(() => {})":
    "the case looks at what became of it",
  "testing/web_lock_cases.ts: outcome.catch(() => {})": "the case looks at it when it has released the lock",
};

/** A rejection that no caller hears of. */
function isDropped(node: ts.Node): boolean {
  if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return false;
  const [handler] = node.arguments;
  return node.expression.name.text === "catch" && handler !== undefined && ts.isArrowFunction(handler) &&
    ts.isBlock(handler.body) && handler.body.statements.length === 0;
}

Deno.test("sources: no rejection is dropped without a reason", () => {
  const planted = `
    declare const closing: Promise<void>;
    closing.catch(() => {});
    closing.then(() => 1).catch(() => {});
    closing.catch(console.log);`;
  assertEquals(scan(programOf([], planted), [PLANTED], isDropped).length, 2);
  const found = scan(programOf(files), files, isDropped);
  assertEquals(found.filter((dropped) => DROPPED[dropped] === undefined), []);
  assertEquals(Object.keys(DROPPED).filter((dropped) => !found.includes(dropped)), []);
});
