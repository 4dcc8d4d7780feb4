// The clients of Postgres.
import pg from "pg";
import postgres from "postgres";
import { configure, lock } from "@holdfast/lock";
import { commitIfHeld, postgresBackend } from "@holdfast/lock/backends/postgres";

export async function main(schema?: string): Promise<void> {
  const pool = new pg.Pool({ connectionString: "postgres://localhost/app" });
  configure({
    strong: postgresBackend(pool, { schema }),
    weak: postgresBackend(postgres("postgres://localhost")),
  });
  postgresBackend(new pg.Client());
  await lock("balance").run((held) =>
    commitIfHeld(held, async (query) => {
      await query("UPDATE account SET balance = balance + $1", [100]);
    })
  );
}
