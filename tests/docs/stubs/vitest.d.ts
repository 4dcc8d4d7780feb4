// What the docs use of Vitest 3.
export function beforeEach(fn: () => unknown): void;
