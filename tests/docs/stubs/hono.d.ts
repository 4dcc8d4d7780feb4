// What the docs use of Hono 4.
export interface Context {
  req: { raw: Request; param(name: string): string };
  json(body: unknown, status?: number): Response;
}
export class Hono {
  all(path: string, handler: (c: Context) => Response | Promise<Response>): this;
  post(path: string, handler: (c: Context) => Response | Promise<Response>): this;
  onError(handler: (error: Error, c: Context) => Response): this;
}
