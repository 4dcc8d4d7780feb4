// What the docs use of redlock 5.
export default class Redlock {
  using<Result>(
    resources: string[],
    duration: number,
    routine: (signal: AbortSignal & { error?: Error }) => Promise<Result>,
  ): Promise<Result>;
}
