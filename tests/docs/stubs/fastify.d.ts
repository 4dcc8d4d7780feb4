// What the docs use of Fastify 5.
export interface Reply {
  code(code: number): this;
  header(name: string, value: string): this;
  send(body: unknown): this;
}
export interface Fastify {
  setErrorHandler(handler: (error: Error, request: unknown, reply: Reply) => unknown): this;
  post<Route extends { Params: unknown }>(
    path: string,
    handler: (request: { params: Route["Params"] }) => Promise<unknown>,
  ): this;
}
export default function fastify(): Fastify;
