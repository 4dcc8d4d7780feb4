import { now } from "../tests/support/child.ts";
import type { Timeline } from "./timeline.ts";

/** How often the running block is drawn again. */
const FRAME_MS = 100;
/** How much a drawing lags behind: by then the news of a moment has come from every process. */
const LAG_MS = 50;

/** The terminal, where blocks come to life; or a pipe, where each is printed when it is complete. */
export class Screen {
  readonly #live = Deno.stdout.isTerminal();
  #drawn = 0;

  get columns(): number {
    return this.#live ? Deno.consoleSize().columns : 100;
  }

  print(...lines: string[]): void {
    console.log(lines.join("\n"));
  }

  /** Draws the timeline until stopped. */
  follow(timeline: Timeline): { stop(): void } {
    let block = 0;
    const draw = (until: number) => {
      for (; block < timeline.blockAt(until); block++) {
        this.#redraw(timeline.draw(block, until));
        this.#drawn = 0;
      }
      if (this.#live) this.#redraw(timeline.draw(block, until));
    };
    if (this.#live) write("\x1b[?25l");
    const timer = setInterval(() => draw(now() - LAG_MS), FRAME_MS);
    return {
      stop: () => {
        clearInterval(timer);
        draw(now());
        if (!this.#live) this.#redraw(timeline.draw(block, now()));
        this.#drawn = 0;
      },
    };
  }

  close(): void {
    if (this.#live) write("\x1b[?25h");
  }

  /** Puts these lines in the place of those drawn before. */
  #redraw(lines: readonly string[]): void {
    const up = this.#drawn > 0 ? `\r\x1b[${this.#drawn}A` : "";
    const clear = this.#live ? "\x1b[K" : "";
    write(up + lines.map((line) => line + clear + "\n").join("") + (this.#live ? "\x1b[J" : ""));
    this.#drawn = this.#live ? lines.length : 0;
  }
}

function write(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
