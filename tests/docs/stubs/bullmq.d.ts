// What the docs use of BullMQ 5.
export class Worker {
  constructor(
    queue: string,
    handler: (job: { data: unknown }) => Promise<unknown>,
    options: { connection: { host: string } },
  );
}
