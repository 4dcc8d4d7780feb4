/** Stands between the clients and the server of KV Connect, and does to their messages what networks do. */

type Call = "snapshot_read" | "atomic_write" | "watch";

/** A stream of announcements. */
interface Stream {
  readonly ending: AbortController;
  isDeaf: boolean;
}

export class Proxy implements Disposable {
  /** How many calls have come, by name. */
  readonly calls: Record<string, number> = {};
  /** How long a token is good for. */
  tokenMs = 3_600_000;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #upstream: string;
  readonly #accessToken: string;
  readonly #losses = new Map<string, number>();
  readonly #streams = new Set<Stream>();
  /** Until when each token is good. */
  readonly #tokens = new Map<string, number>();

  constructor(upstream: string, accessToken: string) {
    this.#upstream = upstream;
    this.#accessToken = accessToken;
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (request) => this.#pass(request),
    );
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** The next `count` calls are carried out, and their answers are lost: the client hears of a bad gateway. */
  loseAnswers(call: Call, count = 1): void {
    this.#losses.set(call, count);
  }

  /** Breaks all streams that are open. */
  cutStreams(): void {
    for (const { ending } of this.#streams) ending.abort("the stream was cut");
  }

  /** On the streams that are open nothing comes any more; they stay open. Later ones are as they should be. */
  deafen(): void {
    for (const stream of this.#streams) stream.isDeaf = true;
  }

  /** No token that was given out is good any more. */
  revokeTokens(): void {
    this.#tokens.clear();
  }

  [Symbol.dispose](): void {
    this.cutStreams();
    // Not waited for: what a failed test has left behind may never end.
    void this.#server.shutdown();
  }

  async #pass(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const call = pathname.slice(pathname.lastIndexOf("/") + 1);
    const body = await request.bytes();
    const headers = new Headers(request.headers);
    if (call !== "") {
      const token = headers.get("authorization")?.slice("Bearer ".length) ?? "";
      if (!((this.#tokens.get(token) ?? 0) > Date.now())) {
        return new Response("token expired", { status: 401 });
      }
      headers.set("authorization", `Bearer ${this.#accessToken}`);
    }
    this.calls[call] = (this.calls[call] ?? 0) + 1;
    const ending = new AbortController();
    const { signal } = ending;
    const answer = await fetch(this.#upstream + pathname, { method: "POST", headers, body, signal })
      .catch(() => new Response("no server", { status: 502 }));
    const { status } = answer;
    if (call === "" && status === 200) return this.#introduce(await answer.json());
    const type = { "content-type": answer.headers.get("content-type") ?? "" };
    if (call !== "watch") {
      const bytes = await answer.bytes();
      const lost = this.#losses.get(call) ?? 0;
      if (lost > 0) {
        this.#losses.set(call, lost - 1);
        return new Response("the answer was lost", { status: 502 });
      }
      return new Response(bytes, { status, headers: type });
    }
    const stream: Stream = { ending, isDeaf: false };
    this.#streams.add(stream);
    // Through a stream of ours: the server would take the other's over, and it could not be cut any more.
    const way = new TransformStream<Uint8Array, Uint8Array>({
      transform: (bytes, controller) => void (stream.isDeaf || controller.enqueue(bytes)),
    });
    return new Response(answer.body?.pipeThrough(way, { signal }), { status, headers: type });
  }

  /** What a client gets first, with our own token, which expires. */
  #introduce(metadata: Record<string, unknown>): Response {
    const token = crypto.randomUUID();
    const expiresAt = Date.now() + this.tokenMs;
    this.#tokens.set(token, expiresAt);
    return Response.json({ ...metadata, token, expiresAt: new Date(expiresAt).toISOString() });
  }
}
