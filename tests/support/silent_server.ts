import { createServer, type Socket } from "node:net";

/** A server that takes connections and never says anything, as behind a firewall that drops what it gets. */
export class SilentServer implements AsyncDisposable {
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    // What is not read does not end either.
    socket.resume();
  });

  static async start(port: number): Promise<SilentServer> {
    const silent = new SilentServer();
    await new Promise<void>((resolve) => silent.#server.listen(port, "127.0.0.1", resolve));
    return silent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    // Clients that lose their connection open another at once.
    this.#server.on("connection", (socket) => socket.destroy());
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
