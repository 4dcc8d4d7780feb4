/** The network between one process and the store: it can be cut, slow, or open on one side only. */

import { createConnection, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../support/free_port.ts";

/** What a line does to what is sent. */
export type Weather =
  | "passes"
  /** Every message takes its time. */
  | "slow"
  /** Nothing comes through, in either direction, and neither side notices: connections stay open. */
  | "half-open";

export class Line {
  readonly port: number;
  weather: Weather = "passes";
  /** How long a message takes while the line is slow. */
  slowMs = 0;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(port: number, server: Server, sockets: Set<Socket>) {
    this.port = port;
    this.#server = server;
    this.#sockets = sockets;
  }

  /** Opens a line to a port of this machine. */
  static async open(target: number): Promise<Line> {
    const sockets = new Set<Socket>();
    /** Those that were there while the line was half-open: what was lost on them does not come any more. */
    const deaf = new WeakSet<Socket>();
    const pass = (from: Socket, to: Socket) => {
      sockets.add(from);
      // What is sent on a connection arrives in order.
      let last = Promise.resolve();
      from.on("data", (data) => {
        if (line.weather === "half-open") {
          deaf.add(from);
          deaf.add(to);
        }
        if (deaf.has(from)) return;
        const send = () => void (to.writable && to.write(data));
        if (line.weather !== "slow") return void (last = last.then(send));
        const late = new Promise<void>((resolve) => setTimeout(resolve, line.slowMs));
        last = Promise.all([last, late]).then(send);
      });
      from.on("close", () => {
        sockets.delete(from);
        if (!deaf.has(from)) to.destroy();
      });
      // A line that breaks is what it is for.
      from.on("error", () => from.destroy());
    };
    const server = createServer((near) => {
      near.setNoDelay();
      const far = createConnection(target, "127.0.0.1");
      far.setNoDelay();
      pass(near, far);
      pass(far, near);
    });
    const port = await freePort();
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    const line = new Line(port, server, sockets);
    return line;
  }

  /** How many ends of connections are open. */
  get open(): number {
    return this.#sockets.size;
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
