// What the docs use of Express 5.
export interface Request {
  params: Record<string, string>;
}
export interface Response {
  on(event: "close", listener: () => void): this;
  status(code: number): this;
  set(field: string, value: string): this;
  json(body: unknown): this;
}
export interface Express {
  post(path: string, handler: (request: Request, response: Response) => Promise<void>): this;
}
export default function express(): Express;
