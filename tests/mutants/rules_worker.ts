// Plays files of tests in a worker, and says which test went red first. It is sent their addresses.

/** What a test of Deno is called with, as far as the tests of the rules use it. */
type Play = (context: { step(name: string, play: Play): Promise<boolean> }) => unknown;

const tests: { readonly name: string; readonly play: Play }[] = [];
let playing = "loading";

function register(first: string | { name: string; fn: Play }, play?: Play): void {
  if (typeof first === "string") tests.push({ name: first, play: play! });
  else tests.push({ name: first.name, play: first.fn });
}
Object.defineProperty(Deno, "test", { value: Object.assign(register, { ignore() {} }) });

async function step(name: string, play: Play): Promise<boolean> {
  playing = name;
  await play({ step });
  return true;
}

async function playAll(files: readonly string[]): Promise<{ count: number; red?: string; why?: string }> {
  try {
    for (const file of files) await import(file);
    for (const { name, play } of tests) await step(name, play);
    return { count: tests.length };
  } catch (error) {
    return { count: tests.length, red: playing, why: String(error).split("\n")[0] };
  }
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<readonly string[]>) => void;
  postMessage(message: unknown): void;
};
scope.onmessage = ({ data }) => void playAll(data).then((outcome) => scope.postMessage(outcome));
