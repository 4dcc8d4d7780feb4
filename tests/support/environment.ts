import process from "node:process";

/**
 * Calls `play` while these environment variables have these values, or none. Only the test file that calls sees that:
 * `Deno.env` belongs to the whole process, in which other test files run at the same time.
 */
export async function withEnvironment<Result>(
  variables: Record<string, string | undefined>,
  play: () => Result,
): Promise<Awaited<Result>> {
  const { env } = process;
  process.env = { ...env, ...variables };
  try {
    return await play();
  } finally {
    process.env = env;
  }
}
