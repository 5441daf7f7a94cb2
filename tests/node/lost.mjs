// npm `postgres` whose server connection ends while all that it asked for is answered. Without a proxy
// the driver does not outlive that.

import postgres from "postgres";
import { assert, report, url } from "./report.mjs";

const sql = postgres(url, { max: 1, onnotice: () => {} });
const other = postgres(url, { max: 1, onnotice: () => {} });

async function readsUntilItIsLost(sql) {
  let batches = 0;
  const reading = sql`SELECT pg_backend_pid() AS pid FROM generate_series(1, 100)`.cursor(
    7,
    async ([{ pid }]) => {
      batches += 1;
      await other`SELECT pg_terminate_backend(${pid}::int, 10000)`;
      // The news may come by now.
      await new Promise((resolve) => setTimeout(resolve, 200));
    },
  );
  await assert.rejects(reading, { code: "08006" });
  assert.equal(batches, 1);
}

await report(
  {
    async "between two batches of a cursor"() {
      await readsUntilItIsLost(sql);
      assert.equal((await sql`SELECT 1 AS one`)[0].one, 1);
    },
    async "in a transaction"() {
      await assert.rejects(
        sql.begin((tx) => readsUntilItIsLost(tx)),
        { code: "08006" },
      );
      assert.equal((await sql`SELECT 1 AS one`)[0].one, 1);
    },
  },
  () => Promise.all([sql.end(), other.end()]),
);
