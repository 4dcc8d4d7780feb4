import { createConnection, createServer, type Socket } from "node:net";
import { freePort } from "../support/free_port.ts";

/** A TCP line that takes its time, in both directions. */
export class SlowLine {
  readonly port: number;
  /** Whether the next answer is lost, and the connection with it. */
  cutting = false;
  /** Whether the next one that subscribes is never answered. */
  ignoring = false;
  #target: number;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets: Set<Socket>;
  /** The connections with subscriptions, and those that nothing comes back on any more. */
  readonly #subscribed = new Set<Socket>();
  readonly #deaf = new Set<Socket>();

  private constructor(
    port: number,
    target: number,
    server: ReturnType<typeof createServer>,
    sockets: Set<Socket>,
  ) {
    this.port = port;
    this.#target = target;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async open(target: number, ms: number): Promise<SlowLine> {
    const sockets = new Set<Socket>();
    const pass = (from: Socket, to: Socket, answers: boolean) => {
      sockets.add(from);
      from.on("data", (data) => {
        if (answers && line.cutting) {
          line.cutting = false;
          from.destroy();
          return;
        }
        if (!answers && /subscribe/i.test(String(data))) {
          line.#subscribed.add(to);
          if (line.ignoring) line.#deaf.add(to);
          line.ignoring = false;
        }
        if (line.#deaf.has(from)) return;
        setTimeout(() => to.writable && to.write(data), ms);
      });
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on("error", () => {});
    };
    const server = createServer((near) => {
      const far = createConnection(line.#target, "127.0.0.1");
      pass(near, far, false);
      pass(far, near, true);
    });
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    const line = new SlowLine(port, target, server, sockets);
    return line;
  }

  /** Leads elsewhere from now on: clients that are connected must connect again. */
  switchTo(target: number): void {
    this.#target = target;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Nothing comes back any more on connections for subscriptions; they stay open. Later ones are as they should be. */
  deafen(): void {
    for (const far of this.#subscribed) this.#deaf.add(far);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
