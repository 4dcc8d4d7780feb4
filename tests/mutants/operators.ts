/**
 * What could be wrong with a line of code, by rule rather than by hand: a condition that always holds, a bound
 * that is off by one, an element that is missing. It changes code only, never types, comments or strings.
 */

import ts from "typescript";

/** One way to break a source text. */
export interface Mutation {
  /** What kind of mistake it is. */
  readonly operator: string;
  /** Where it is, counted from 1. */
  readonly line: number;
  /** That line, as it is. */
  readonly code: string;
  /** The function that it is in; empty at the top level. */
  readonly within: string;
  /** The smallest whole piece of code that changes, before and after, on one line each. */
  readonly from: string;
  readonly to: string;
  /** The whole text, broken. */
  readonly text: string;
}

/** Replaces what is between two positions. */
interface Edit {
  readonly start: number;
  readonly end: number;
  readonly by: string;
}

const { SyntaxKind: Kind } = ts;

/** Signs that are taken for each other. Several: each of them in turn. */
const SIGNS: ReadonlyMap<ts.SyntaxKind, readonly string[]> = new Map([
  [Kind.LessThanToken, ["<=", ">="]],
  [Kind.LessThanEqualsToken, ["<", ">"]],
  [Kind.GreaterThanToken, [">=", "<="]],
  [Kind.GreaterThanEqualsToken, [">", "<"]],
  [Kind.EqualsEqualsEqualsToken, ["!=="]],
  [Kind.ExclamationEqualsEqualsToken, ["==="]],
  [Kind.EqualsEqualsToken, ["!="]],
  [Kind.ExclamationEqualsToken, ["=="]],
  [Kind.PlusToken, ["-"]],
  [Kind.MinusToken, ["+"]],
  [Kind.AsteriskToken, ["/"]],
  [Kind.AsteriskAsteriskToken, ["*"]],
  [Kind.SlashToken, ["*"]],
  [Kind.PercentToken, ["*"]],
  [Kind.PlusEqualsToken, ["-="]],
  [Kind.MinusEqualsToken, ["+="]],
]);

/** Functions that are taken for each other, whatever they are called on. */
const METHODS: Readonly<Record<string, string>> = {
  some: "every",
  every: "some",
  find: "findLast",
  findLast: "find",
  findIndex: "findLastIndex",
  findLastIndex: "findIndex",
  startsWith: "endsWith",
  endsWith: "startsWith",
};

/** The same, of `Math`. */
const MATH: Readonly<Record<string, string>> = {
  min: "max",
  max: "min",
  floor: "ceil",
  ceil: "floor",
  round: "floor",
};

/** Functions that give back what they are called on, or some of it: their call is left out. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  "filter",
  "slice",
  "sort",
  "toSorted",
  "reverse",
  "toReversed",
]);

/** Every way in which a source text can be broken by one of the operators, in the order of the text. */
export function mutationsOf(source: string): Mutation[] {
  const file = ts.createSourceFile("source.ts", source, ts.ScriptTarget.Latest, true);
  const lines = source.split("\n");
  const found = new Map<string, Mutation>();
  const add = (operator: string, node: ts.Node, edit: Edit) => {
    const text = source.slice(0, edit.start) + edit.by + source.slice(edit.end);
    if (text === source || found.has(text)) return;
    const [start, end] = [node.getStart(file), node.getEnd()];
    const oneLine = (code: string) => code.replace(/\s+/g, " ").trim();
    const [blank] = /^[\s,]*/.exec(source.slice(edit.start, edit.end))!;
    const { line } = file.getLineAndCharacterOfPosition(edit.start + blank.length);
    found.set(text, {
      operator,
      line: line + 1,
      code: lines[line].trim(),
      within: functionAround(node),
      from: oneLine(source.slice(start, end)),
      to: oneLine(text.slice(start, end + text.length - source.length)),
      text,
    });
  };
  const visit = (node: ts.Node) => {
    if (isNoCode(node)) return;
    for (const [operator, edit] of editsOf(node, file)) add(operator, wholeOf(node), edit);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return [...found.values()];
}

/** What is gone when the program runs, or says only where things are. */
function isNoCode(node: ts.Node): boolean {
  return ts.isTypeNode(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) ||
    ts.isImportDeclaration(node) || ts.isExportDeclaration(node) || ts.isTypeParameterDeclaration(node) ||
    ts.canHaveModifiers(node) && !!node.modifiers?.some(({ kind }) => kind === Kind.DeclareKeyword);
}

function functionAround(node: ts.Node): string {
  for (let at: ts.Node | undefined = node; at !== undefined; at = at.parent) {
    if ((ts.isFunctionDeclaration(at) || ts.isMethodDeclaration(at) || ts.isAccessor(at)) && at.name) {
      return at.name.getText();
    }
    if (ts.isConstructorDeclaration(at)) return "constructor";
  }
  return "";
}

/** What is shown of a change: of a condition nothing but itself, of a constant what it is used for. */
function wholeOf(node: ts.Node): ts.Node {
  if (ts.isIfStatement(node) || ts.isWhileStatement(node) || ts.isDoStatement(node)) return node.expression;
  if (ts.isForStatement(node)) return node.condition ?? node;
  const isConstant = ts.isNumericLiteral(node) || [Kind.TrueKeyword, Kind.FalseKeyword].includes(node.kind);
  return isConstant && !ts.isSourceFile(node.parent) && !ts.isBlock(node.parent) ? node.parent : node;
}

type Found = readonly [operator: string, edit: Edit];

/** How one node can be broken, as long as its parts are not. */
function* editsOf(node: ts.Node, file: ts.SourceFile): Generator<Found> {
  const replace = (part: ts.Node, by: string): Edit => ({
    start: part.getStart(file),
    end: part.getEnd(),
    by,
  });
  const by = (part: ts.Node) => replace(node, `(${part.getText(file)})`);

  if (ts.isIfStatement(node)) {
    yield ["always", replace(node.expression, "true")];
    yield ["never", replace(node.expression, "false")];
  } else if (ts.isWhileStatement(node) || ts.isDoStatement(node)) {
    yield ["never", replace(node.expression, "false")];
  } else if (ts.isForStatement(node) && node.condition !== undefined) {
    yield ["never", replace(node.condition, "false")];
  } else if (ts.isConditionalExpression(node)) {
    yield ["always", by(node.whenTrue)];
    yield ["never", by(node.whenFalse)];
  } else if (ts.isBinaryExpression(node)) {
    yield* binaryEdits(node, replace, by);
  } else if (ts.isPrefixUnaryExpression(node) || ts.isPostfixUnaryExpression(node)) {
    yield* unaryEdits(node, replace, by);
  } else if (ts.isNumericLiteral(node) && !isName(node)) {
    const value = Number(node.text);
    yield ["off by one", replace(node, `${value + 1}`)];
    if (value >= 1) yield ["off by one", replace(node, `${value - 1}`)];
    else if (!isComparedToLength(node)) yield ["off by one", replace(node, `(${value - 1})`)];
  } else if (node.kind === Kind.TrueKeyword) {
    yield ["boolean", replace(node, "false")];
  } else if (node.kind === Kind.FalseKeyword) {
    yield ["boolean", replace(node, "true")];
  } else if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
    yield* callEdits(node.expression, replace, by);
  } else if (ts.isArrayLiteralExpression(node)) {
    for (const edit of without(node.elements, file)) yield ["element left out", edit];
  } else if (ts.isObjectLiteralExpression(node)) {
    for (const [i, edit] of without(node.properties, file).entries()) {
      if (!isUndefined(node.properties[i])) yield ["property left out", edit];
    }
  } else if (isStep(node)) {
    yield ["statement left out", replace(node, ";")];
  }
}

type Replace = (part: ts.Node, by: string) => Edit;
type By = (part: ts.Node) => Edit;

function* binaryEdits(node: ts.BinaryExpression, replace: Replace, by: By): Generator<Found> {
  const { left, operatorToken: sign, right } = node;
  const { kind } = sign;
  if (kind === Kind.AmpersandAmpersandToken || kind === Kind.BarBarToken) {
    // In brackets, for the other one binds otherwise.
    const other = kind === Kind.BarBarToken ? "&&" : "||";
    yield ["and, or", replace(node, `((${left.getText()}) ${other} (${right.getText()}))`)];
    yield ["condition left out", by(left)];
    yield ["condition left out", by(right)];
  } else if (kind === Kind.QuestionQuestionToken) {
    yield ["default left out", by(left)];
    yield ["default always", by(right)];
  } else if (!(kind === Kind.PlusToken && [left, right].some(isText))) {
    const opposite = SIGNS.get(kind)?.at(-1);
    for (const other of SIGNS.get(kind) ?? []) {
      // Of a whole condition, always and never together find all that its opposite finds, and more.
      if (other !== opposite || !isComparison(kind) || !isCondition(node)) {
        // Apart from what follows: `a+-b` is not to become `a--b`.
        yield ["sign", replace(sign, `${other} `)];
      }
    }
  }
}

function* unaryEdits(
  node: ts.PrefixUnaryExpression | ts.PostfixUnaryExpression,
  replace: Replace,
  by: By,
): Generator<Found> {
  const { operator, operand } = node;
  if (operator === Kind.ExclamationToken) yield ["negation left out", by(operand)];
  if (operator === Kind.MinusToken) yield ["minus left out", by(operand)];
  const other = operator === Kind.PlusPlusToken ? "--" : operator === Kind.MinusMinusToken ? "++" : undefined;
  if (other === undefined) return;
  const text = operand.getText();
  yield ["sign", replace(node, ts.isPrefixUnaryExpression(node) ? ` ${other}${text}` : text + other)];
}

function* callEdits(called: ts.PropertyAccessExpression, replace: Replace, by: By): Generator<Found> {
  const { expression: on, name } = called;
  const isMath = ts.isIdentifier(on) && on.text === "Math";
  const other = (isMath ? MATH : METHODS)[name.text];
  if (other !== undefined && Object.hasOwn(isMath ? MATH : METHODS, name.text)) {
    yield ["the other function", replace(name, other)];
  }
  if (LEFT_OUT.has(name.text)) yield ["call left out", by(on)];
}

/** The list without each of its elements in turn. */
function without(list: ts.NodeArray<ts.Node>, file: ts.SourceFile): Edit[] {
  return list.map((element, i) => {
    if (i < list.length - 1) {
      return { start: element.getStart(file), end: list[i + 1].getStart(file), by: "" };
    }
    return { start: i > 0 ? list[i - 1].getEnd() : element.getStart(file), end: element.getEnd(), by: "" };
  });
}

/** A statement that is there for what it does. */
function isStep(node: ts.Node): boolean {
  return ts.isExpressionStatement(node) && !ts.isStringLiteral(node.expression) ||
    ts.isThrowStatement(node) ||
    ts.isContinueStatement(node) || ts.isBreakStatement(node);
}

/** A number that is a name: `{ 1: "one" }`. */
function isName(node: ts.NumericLiteral): boolean {
  return "name" in node.parent && node.parent.name === node;
}

/** A length is never below 0. */
function isComparedToLength(node: ts.NumericLiteral): boolean {
  const { parent } = node;
  if (!ts.isBinaryExpression(parent) || !isComparison(parent.operatorToken.kind)) return false;
  const other = parent.left === node ? parent.right : parent.left;
  return ts.isPropertyAccessExpression(other) && ["length", "size"].includes(other.name.text);
}

/** From `<` to `!==`. */
function isComparison(sign: ts.SyntaxKind): boolean {
  return sign >= Kind.LessThanToken && sign <= Kind.ExclamationEqualsEqualsToken;
}

function isCondition(node: ts.Expression): boolean {
  const { parent } = node;
  return ts.isIfStatement(parent) || ts.isConditionalExpression(parent) && parent.condition === node;
}

function isText(node: ts.Expression): boolean {
  return ts.isStringLiteralLike(node) || ts.isTemplateExpression(node) ||
    ts.isBinaryExpression(node) && node.operatorToken.kind === Kind.PlusToken &&
      [node.left, node.right].some(isText);
}

/** A property that says nothing: it is there for the shape of the object alone. */
function isUndefined(property: ts.Node): boolean {
  return ts.isPropertyAssignment(property) && ts.isIdentifier(property.initializer) &&
    property.initializer.text === "undefined";
}
