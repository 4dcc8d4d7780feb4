/** What the backends share: the server's clock, and what they pass on of a client's error. */

import type { Mutant } from "./mutant.ts";

const SERVER_CLOCK = { file: "backends/server_clock.ts", test: "tests/server_clock_test.ts" };
const CAUSES = { file: "backends/causes.ts", test: "tests/secrets_test.ts" };

export const BACKENDS: readonly Mutant[] = [
  {
    law: "1: of answers under way together it is unknown which is later",
    from: "else if (sentMs < this.#heardMs) {",
    to: "else if (sentMs < -Infinity) {",
    ...SERVER_CLOCK,
    filter: "it is not known which is later",
  },
  {
    law: "1: what is known of the server's time ages",
    from: "return Math.max(0, passedMs) * DRIFT;",
    to: "return 0 * passedMs;",
    ...SERVER_CLOCK,
    filter: "not asked for",
  },
  {
    law: "1: a wall clock that was refuted is not heard again",
    from: "if (wall.least > this.#most || wall.most < this.#least) this.#wallErrorMs = undefined;",
    to: "",
    ...SERVER_CLOCK,
    filter: "is not heard again",
  },
  {
    law: "1: a freeze does not falsify the wall clock",
    from: "boundsOf({ sentMs, receivedMs: this.#clock.monotonicMs(), serverMs })",
    to: "boundsOf({ sentMs, receivedMs: sentMs, serverMs })",
    ...SERVER_CLOCK,
    filter: "frozen while it asks",
  },
  {
    law: "7: a cause carries no secret",
    from: "): Error {\n  const { name",
    to: "): Error {\n  if (depth > 0) return error as Error;\n  const { name",
    ...CAUSES,
    filter: "hangs its request",
  },
  {
    law: "7: a server that quotes a command is not quoted",
    from: 'return messageOf(error).replace(ARGUMENTS, "");',
    to: "return messageOf(error);",
    ...CAUSES,
    filter: "quotes the command",
  },
  {
    law: "a store that has fallen silent: its name says what its client failed with",
    file: "backends/trouble.ts",
    from: "this.#last = printable(reasonOf(error));",
    to: "",
    test: "tests/unreachable_test.ts",
    filter: "Deno KV",
  },
  {
    law: "a backend that is closed ends its watches",
    file: "backends/closing.ts",
    from: "this.#failure ??= disposedFailure(this.#store);",
    to: "",
    test: "tests/closing_test.ts",
    filter: "with a clock for tests",
  },
  {
    law: "Deno KV: a default database that no other program shares is warned of",
    file: "backends/kv/own_database.ts",
    from: "if (isWarned || !await isOwn()) return;",
    to: "return;",
    test: "tests/programs_test.ts",
    filter: "shares: a warning",
  },
];
