/** What the handlers of requests answer with. */

/** What every answer says: no cache keeps it, and no browser takes it for something that it does not say it is. */
export const HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
};

/** An answer in JSON. */
export function json(status: number, body: object, headers?: Record<string, string>): Response {
  return Response.json(body, { status, headers: { ...HEADERS, ...headers } });
}

/** Says no in JSON, and why. */
export function refusal(status: number, error: string, headers?: Record<string, string>): Response {
  return json(status, { error }, headers);
}

/** The answer as the request's method wants it: to HEAD, without a body. */
export function answerTo({ method }: Request, answer: Response): Response {
  if (method !== "HEAD" || answer.body === null) return answer;
  // It will not be read. One that is being read cannot be cancelled, and need not be.
  answer.body.cancel().catch(() => {});
  return new Response(null, answer);
}
