import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A copy of the project as it is in this folder, where it may be broken. It is removed when it is disposed of. */
export class Copy implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Copies what Git knows or would add, below `folders` if any are given. */
  static async make(...folders: string[]): Promise<Copy> {
    const { stdout } = await new Deno.Command("git", {
      args: ["ls-files", "-co", "--exclude-standard", "-z", "--", ...folders],
      cwd: ROOT,
    }).output();
    const copy = new Copy(await Deno.makeTempDir({ prefix: "holdfast-mutants-" }));
    for (const path of new TextDecoder().decode(stdout).split("\0").filter((path) => path !== "")) {
      const target = join(copy.path, path);
      await Deno.mkdir(join(target, ".."), { recursive: true });
      await Deno.copyFile(join(ROOT, path), target).catch((error) => {
        // Git knows of it, but it has been deleted here.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
    }
    return copy;
  }

  /** Runs `fn` while a file has another text. */
  async changed<Result>(
    file: string,
    change: (text: string) => string,
    fn: () => Promise<Result>,
  ): Promise<Result> {
    const path = join(this.path, file);
    const text = await Deno.readTextFile(path);
    await Deno.writeTextFile(path, change(text));
    try {
      return await fn();
    } finally {
      await Deno.writeTextFile(path, text);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}
